import importlib
import json
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import airflow
import jsonschema
import pytest

import airflow_provider_mps
from airflow_provider_mps.get_provider_info import get_provider_info
from airflow_provider_mps.hooks.mps import MpsHook
from dev.airflow_environment import REPOSITORY

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


@pytest.mark.parametrize("key", ["integrations", "transfers"])
def test_entries_match_the_schema_of_community_providers(key):
    # This schema allows no other keys, that of the provider info does.
    schema = json.loads((SCHEMAS / "provider.yaml.schema.json").read_text())
    jsonschema.validate(get_provider_info()[key], schema["properties"][key])


def test_guides_and_logo_exist():
    info = get_provider_info()
    guides = [guide for entry in info["integrations"] for guide in entry["how-to-guide"]]
    guides += [transfer["how-to-guide"] for transfer in info["transfers"]]
    logos = [entry["logo"] for entry in info["integrations"] if "logo" in entry]
    assert all(path.startswith("/docs/") and (REPOSITORY / path[1:]).is_file() for path in (*guides, *logos))
    assert logos
    assert all(ElementTree.parse(REPOSITORY / logo[1:]).getroot().tag.endswith("svg") for logo in logos)


def test_every_named_integration_is_one_of_a_provider():
    from airflow.providers.amazon.get_provider_info import get_provider_info as get_amazon_info

    info = get_provider_info()
    own, others = ({entry["integration-name"] for entry in each["integrations"]} for each in (info, get_amazon_info()))
    for kind in ("hooks", "operators", "sensors", "triggers"):
        assert {group["integration-name"] for group in info[kind]} <= own
    for transfer in info["transfers"]:
        assert transfer["source-integration-name"] in own
        assert transfer["target-integration-name"] in own | others
        importlib.import_module(transfer["python-module"])


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
