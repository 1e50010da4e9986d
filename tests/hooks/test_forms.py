"""The connection form, through the code of Airflow that shows it."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_lamini.hooks.connection import connection_info
from airflow_provider_lamini.platforms import platform
from airflow_provider_lamini.platforms.base import FieldKind

declarative = pytest.mark.skipif(
    not AIRFLOW_V_3_2_PLUS, reason="earlier versions read the form methods of hooks, not the metadata"
)
by_methods = pytest.mark.skipif(
    find_spec("airflow.www") is None, reason="Airflow 3 has another form, and comes without WTForms"
)


@pytest.fixture(scope="module", params=["lamini", "emissary"])
def name(request):
    """The connection type."""
    return request.param


@pytest.fixture(scope="module")
def described(name):
    """The form as the platform describes it."""
    return platform(name).form


@pytest.fixture(scope="module")
def shown(name):
    """What the web form of Airflow 3 is told of the connection type."""
    from airflow.api_fastapi.core_api.routes.ui.connections import hook_meta_data

    (meta,) = [entry for entry in hook_meta_data() if entry.connection_type == name]
    return json.loads(meta.model_dump_json())


@declarative
def test_the_form_of_airflow_3_shows_each_field_with_title_and_help(shown, described):
    assert shown["hook_name"] == described.title
    assert list(shown["extra_fields"]) == [field.name for field in described.fields]
    for field in described.fields:
        told = shown["extra_fields"][field.name]
        assert told["schema"]["title"] == field.title
        assert told["description"] == field.help
        assert "null" in told["schema"]["type"]


@declarative
def test_the_form_of_airflow_3_has_types_defaults_and_minimums(shown):
    fields = shown["extra_fields"]
    assert fields["connect_timeout"]["schema"] == {
        "title": "Connect timeout",
        "type": ["number", "null"],
        "minimum": 0.1,
    }
    assert fields["max_connections"]["schema"]["type"] == ["integer", "null"]
    assert fields["verify"]["schema"]["type"] == ["boolean", "null"]
    assert fields["verify"]["value"] is True
    assert fields["proxy"]["schema"]["format"] == "password"
    assert fields["headers"]["schema"]["type"] == ["object", "null"]
    assert fields["read_timeout"]["value"] is None


@declarative
def test_the_form_of_airflow_3_names_the_standard_fields(shown, described):
    standard = shown["standard_fields"]
    assert standard["host"]["title"] == "Platform URL"
    assert standard["host"]["placeholder"] == described.default_url
    assert standard["password"]["title"] == "API key"
    assert standard["login"]["hidden"] is True


@pytest.fixture(scope="module")
def manager(web_stack):  # noqa: ARG001 - loaded for its effect
    """The providers manager of Airflow 2, which collects the fields of the web form from hooks."""
    from airflow.providers_manager import ProvidersManager

    return ProvidersManager()


@pytest.fixture(scope="module")
def form(manager, name):
    """Fills the extra fields of the web form of Airflow 2 in, as a browser sends them."""
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    fields = {
        field.removeprefix(f"extra__{name}__"): info.field
        for field, info in manager.connection_form_widgets.items()
        if field.startswith(f"extra__{name}__")
    }
    cls = type("ExtraForm", (Form,), fields)
    return lambda **sent: cls(MultiDict(sent))


@by_methods
def test_the_form_of_airflow_2_shows_each_field_with_title_and_help(manager, described, name):
    for field in described.fields:
        info = manager.connection_form_widgets[f"extra__{name}__{field.name}"]
        assert str(info.field.kwargs["label"]) == field.title
        assert info.field.kwargs["description"] == field.help
        assert info.is_sensitive is (field.kind is FieldKind.SECRET)


@by_methods
def test_the_form_of_airflow_2_names_the_standard_fields(manager, described, name):
    behaviour = manager.field_behaviours[name]
    assert behaviour["relabeling"]["password"] == "API key"
    assert behaviour["placeholders"]["host"] == described.default_url
    assert behaviour["hidden_fields"] == ["login"]


@by_methods
def test_the_hook_is_offered_and_testable_on_airflow_2(manager, described, name):
    info = manager.hooks[name]
    assert info.hook_name == described.title
    assert info.connection_testable is True


@by_methods
def test_submitted_values_of_the_form_of_airflow_2_become_settings(form, name):
    filled = form(
        connect_timeout="2.5",
        read_timeout="",
        verify="false",
        headers='{"X-Team": "data"}',
        max_connections="7",
        requests_per_second=".5",
        tokens_per_minute="90000",
    )
    assert filled.validate(), filled.errors
    extra = {name: value for name, value in filled.data.items() if value != ""}
    settings = connection_info(
        Connection(
            conn_id="c",
            conn_type=name,
            host="platform.example.com",
            password="k" * 9,
            extra=json.dumps(extra),
        ),
        platform(name),
    ).settings
    assert (settings.connect_timeout, settings.read_timeout) == (2.5, 120.0)
    assert settings.verify is False
    assert settings.headers == {"X-Team": "data"}
    assert (settings.max_connections, settings.requests_per_second) == (7, 0.5)
    assert settings.tokens_per_minute == 90_000.0


@by_methods
@pytest.mark.parametrize(
    ("field", "value"),
    [("connect_timeout", "soon"), ("verify", "no"), ("max_connections", "0"), ("max_connections", "many")],
)
def test_the_form_of_airflow_2_refuses_invalid_values(form, field, value):
    filled = form(**{field: value})
    assert not filled.validate()
    assert list(filled.errors) == [field]


@by_methods
def test_saving_the_form_of_airflow_2_again_keeps_a_flag_off(form):
    """That form drops stored values that are falsy, so the flag is text there."""
    stored = form(verify="false").data["verify"]
    assert stored
    assert form(verify=stored).data["verify"] == "false"


@by_methods
def test_verification_is_on_in_a_new_form_of_airflow_2(form):
    assert form().data["verify"] == "true"


@by_methods
def test_saving_the_form_of_airflow_2_again_neither_shows_nor_loses_a_secret(form):
    """What the browser sends back is the text by which Airflow knows that a secret was not changed."""
    from airflow.www.views import SENSITIVE_FIELD_PLACEHOLDER

    html = str(form(proxy="http://user:hunter2@proxy.example.com:3128").proxy())
    assert 'type="password"' in html
    assert f'value="{SENSITIVE_FIELD_PLACEHOLDER}"' in html
    assert "hunter2" not in html
    assert 'value=""' in str(form().proxy())
