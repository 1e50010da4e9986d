"""The connection form of Airflow before 3.2, made of the same table as the declarative one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.hooks.fields import FieldKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_lamini.hooks.fields import ConnectionField


def widgets(fields: Iterable[ConnectionField]) -> dict[str, Any]:
    """WTForms fields for the web form.

    Flags and numbers are text there: its checkbox shows a stored ``false`` as checked and would turn it into
    ``true`` when the connection is saved again, and its number field holds no fractions.

    :param fields: the table
    :return: a field for each entry, by the entry's name
    """
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import NumberRange, Optional, Regexp

    def widget(field: ConnectionField) -> Any:
        common = {"label": lazy_gettext(field.title), "description": field.help}
        if field.kind is FieldKind.SECRET:
            return PasswordField(**common, widget=BS3PasswordFieldWidget(), validators=[Optional()])
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
