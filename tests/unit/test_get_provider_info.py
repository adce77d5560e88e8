import importlib
import json
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_mps
from airflow_provider_mps.get_provider_info import get_provider_info
from airflow_provider_mps.hooks.mps import MpsHook

SCHEMAS = Path(airflow.__path__[0])


def test_entry_point_returns_provider_info():
    found = [point for point in entry_points(group="apache_airflow_provider") if "airflow_provider_mps" in point.value]
    assert [point.load()()["package-name"] for point in found] == ["airflow-provider-mps"]


def test_provider_info_matches_schema_of_airflow():
    schema = json.loads((SCHEMAS / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_connection_form_matches_schema_of_airflow():
    schema = json.loads((SCHEMAS / "provider.yaml.schema.json").read_text())
    types = {**schema["properties"]["connection-types"], "definitions": schema.get("definitions", {})}
    jsonschema.validate(get_provider_info()["connection-types"], types)


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_registered_modules_can_be_imported(kind):
    for group in get_provider_info()[kind]:
        for module in group["python-modules"]:
            importlib.import_module(module)


def test_registered_connection_type_is_that_of_hook():
    (registered,) = get_provider_info()["connection-types"]
    assert registered["connection-type"] == MpsHook.conn_type
    assert registered["hook-name"] == MpsHook.hook_name
    assert registered["hook-class-name"] == f"{MpsHook.__module__}.{MpsHook.__qualname__}"


def test_registered_version_is_that_of_package():
    assert get_provider_info()["versions"] == [airflow_provider_mps.__version__]
