import json

import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

from airflow_provider_mps.api.connection import MpsConnection
from airflow_provider_mps.connection_form import DEFAULT_HOST, EXTRA_FIELDS, MAINLAND_HOST
from airflow_provider_mps.hooks.mps import MpsHook


@pytest.fixture
def form():
    """The form in the UI of Airflow 3.2 and later, from the registered provider info."""
    HookMetaService.hook_meta_data.cache_clear()
    (form,) = (each for each in HookMetaService.hook_meta_data() if each.connection_type == "tencent_mps")
    return form


@pytest.fixture
def older_form(monkeypatch):
    """The form in the UI of Airflow 3.0 and 3.1, which call the hook with stand-ins for the widgets of Airflow 2."""
    modules = {
        "wtforms": {
            "StringField": HookMetaService.MockStringField,
            "PasswordField": HookMetaService.MockPasswordField,
        },
        "wtforms.validators": {"Optional": HookMetaService.MockOptional},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {
            "BS3TextFieldWidget": HookMetaService.MockAnyWidget,
            "BS3PasswordFieldWidget": HookMetaService.MockAnyWidget,
        },
    }
    import sys
    from types import ModuleType

    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    fields = {name: field.param.dump() for name, field in MpsHook.get_connection_form_widgets().items()}
    return fields, HookMetaService._make_standard_fields(MpsHook.get_ui_field_behaviour())


def test_form_has_field_for_each_extra_key():
    fields = set(MpsConnection.__dataclass_fields__)
    standard = {"conn_id", "endpoint", "scheme", "secret_id", "secret_key"}
    assert set(EXTRA_FIELDS) == fields - standard


def test_extra_fields_have_label_and_description(form):
    assert list(form.extra_fields) == list(EXTRA_FIELDS)
    for field in form.extra_fields.values():
        assert field["schema"]["title"]
        assert field["description"].endswith(".")
        assert len(field["description"].split()) <= 16


def test_standard_fields_have_tencent_labels(form):
    standard = form.standard_fields
    titles = [each.title for each in (standard.login, standard.password, standard.host, standard.url_schema)]
    assert titles == ["SecretId", "SecretKey", "API domain", "Scheme"]


def test_host_placeholder_shows_both_domains(form):
    assert DEFAULT_HOST in form.standard_fields.host.placeholder
    assert f"China: {MAINLAND_HOST}" in form.standard_fields.host.placeholder


def test_optional_fields_state_default_and_unit(form):
    described = {name: field["description"] for name, field in form.extra_fields.items()}
    assert all("Default: " in text for name, text in described.items() if name != "token")
    assert "in seconds. Default: 10." in described["timeout"]
    assert "Default: 18. Documented quota: 20." in described["requests_per_second"]


def test_secret_fields_are_password_fields(form):
    secret = {name for name, field in form.extra_fields.items() if field["schema"].get("format") == "password"}
    assert secret == {"token", "proxy"}


def test_region_field_suggests_but_accepts_any(form):
    assert "ap-singapore" in form.extra_fields["region"]["schema"]["examples"]
    assert "enum" not in form.extra_fields["region"]["schema"]


def test_extra_fields_are_optional(form):
    for field in form.extra_fields.values():
        assert "null" in field["schema"]["type"]
        assert field["value"] is None


def test_older_form_equals_registered_form(form, older_form):
    fields, standard = older_form

    def get_texts(fields):
        return {
            name: (field["schema"]["title"], field["description"], field["schema"].get("format"), field["value"])
            for name, field in fields.items()
        }

    assert get_texts(fields) == get_texts(form.extra_fields)
    assert standard == form.standard_fields
    json.dumps(fields)
