import json

import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.connection_form import DEFAULT_HOST, EXTRA_FIELDS, MAINLAND_HOST
from airflow_provider_mps.hooks.mps import MpsHook


@pytest.fixture
def form():
    """The form as the UI of Airflow 3.2 and later gets it, from what the package registers."""
    HookMetaService.hook_meta_data.cache_clear()
    (form,) = (each for each in HookMetaService.hook_meta_data() if each.connection_type == "tencent_mps")
    return form


@pytest.fixture
def older_form(monkeypatch):
    """The same of 3.0 and 3.1, which put stand-ins for their old web server's fields under the hook's methods."""
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


def test_the_form_has_a_field_for_everything_that_is_read_from_extra():
    read = set(MpsConnection.__dataclass_fields__)
    standard = {"conn_id", "endpoint", "scheme", "secret_id", "secret_key"}
    assert set(EXTRA_FIELDS) == read - standard


def test_every_field_of_extra_has_a_label_and_a_sentence_of_help(form):
    assert list(form.extra_fields) == list(EXTRA_FIELDS)
    for field in form.extra_fields.values():
        assert field["schema"]["title"]
        assert field["description"].endswith(".")


def test_airflows_own_fields_carry_the_names_of_tencent(form):
    standard = form.standard_fields
    titles = [each.title for each in (standard.login, standard.password, standard.host, standard.url_schema)]
    assert titles == ["SecretId", "SecretKey", "API domain", "Scheme"]


def test_the_domains_of_both_sites_are_told(form):
    assert DEFAULT_HOST in form.standard_fields.host.placeholder
    assert f"China: {MAINLAND_HOST}" in form.standard_fields.host.placeholder


def test_what_is_secret_is_a_password_field(form):
    secret = {name for name, field in form.extra_fields.items() if field["schema"].get("format") == "password"}
    assert secret == {"token", "proxy"}


def test_common_regions_are_offered_and_others_taken(form):
    assert "ap-singapore" in form.extra_fields["region"]["schema"]["examples"]
    assert "enum" not in form.extra_fields["region"]["schema"]


def test_every_field_may_be_left_empty(form):
    for field in form.extra_fields.values():
        assert "null" in field["schema"]["type"]
        assert field["value"] is None


def test_the_hooks_form_for_older_versions_agrees_with_the_registered_one(form, older_form):
    fields, standard = older_form

    def told(fields):
        return {
            name: (field["schema"]["title"], field["description"], field["schema"].get("format"), field["value"])
            for name, field in fields.items()
        }

    assert told(fields) == told(form.extra_fields)
    assert standard == form.standard_fields
    json.dumps(fields)
