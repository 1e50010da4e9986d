"""The connection form of Airflow before 3.2, built from the same table as the declarative one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.platforms.base import FieldKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_lamini.platforms.base import ConnectionField


def widgets(fields: Iterable[ConnectionField]) -> dict[str, Any]:
    """WTForms fields for the web form.

    Flags and numbers are text fields: the form's checkbox shows a stored ``false`` as checked and would turn it into
    ``true`` when the connection is saved again, and its number field takes no fractions.

    :param fields: the extra fields
    :return: a WTForms field for each, by its name
    """
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import NumberRange, Optional, Regexp

    def widget(field: ConnectionField) -> Any:
        common = {"label": lazy_gettext(field.title), "description": field.help}
        if field.kind is FieldKind.SECRET:
            return PasswordField(**common, widget=_password_input(), validators=[Optional()])
        text = {**common, "widget": BS3TextFieldWidget()}
        if field.kind is FieldKind.INTEGER:
            return IntegerField(**text, validators=[Optional(), NumberRange(min=field.minimum)])
        if field.kind is FieldKind.NUMBER:
            number = Regexp(r"\d+(\.\d*)?$|\.\d+$", message="A number, such as 30 or 0.5.")
            return StringField(**text, validators=[Optional(), number])
        if field.kind is FieldKind.FLAG:
            start = None if field.default is None else str(field.default).lower()
            flag = Regexp(r"(?i)(true|false)$", message="true or false.")
            return StringField(**text, validators=[Optional(), flag], default=start)
        return StringField(**text, validators=[Optional()])

    return {field.name: widget(field) for field in fields}


def _password_input() -> Any:
    """Return a password input that keeps the stored value when the connection is edited.

    A password field shows no stored value, and Airflow deletes an extra that is submitted empty. The placeholder that
    Airflow itself shows for secrets means 'unchanged' when it is submitted.
    """
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget

    class PasswordInput(BS3PasswordFieldWidget):  # type: ignore[misc]
        def __init__(self) -> None:
            self.hide_value = False

        def __call__(self, field: Any, **options: Any) -> Any:
            from airflow.www.views import (  # type: ignore[import-not-found]  # only Airflow 2 calls this
                SENSITIVE_FIELD_PLACEHOLDER,
            )

            shown = SENSITIVE_FIELD_PLACEHOLDER if field.data else ""
            return super().__call__(field, **{**options, "value": shown})

    return PasswordInput()
