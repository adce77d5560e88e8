"""docs/connection.md and docs/connection-fields.md say what the code does."""

import re
import shlex
from dataclasses import replace

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_mps.api import credentials, retry, sdk_installation
from airflow_provider_mps.api.connection import MAX_TIMEOUT_SECONDS, MpsConnection
from airflow_provider_mps.api.connection_lookup import TEST_TIMEOUT_SECONDS, get_mps_connection
from airflow_provider_mps.api.network_settings import CA_VARIABLES
from airflow_provider_mps.connection_form import CONN_TYPE, DEFAULT_HOST, EXTRA_FIELDS, FIELD_BEHAVIOUR, HOOK_NAME
from airflow_provider_mps.error_codes import ERROR_CODES, get_advice, is_connection_error
from airflow_provider_mps.fs.cos_endpoint import CosEndpoint
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling.intervals import FIRST_USE_GRACE_SECONDS, MAX_BACKOFF_SECONDS, ROTATION_GRACE_SECONDS
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

GUIDE = DOCS / "connection.md"
REFERENCE = DOCS / "connection-fields.md"
LABELS = {
    **FIELD_BEHAVIOUR["relabeling"],
    "port": "Port",
    **{f"extra.{name}": field["label"] for name, field in EXTRA_FIELDS.items()},
}
LOOK_UPS_SECONDS = (retry.MAX_CHANGE_LOOKUPS - 1) * retry._make_change_policy(None)["wait"].wait_fixed
"""Computed before a fixture sets waits to zero."""
ATTRIBUTES = {"login": "secret_id", "password": "secret_key", "host": "endpoint", "schema": "scheme"}


def read_fields():
    (table,) = read_tables(REFERENCE.read_text())
    return {row["Name"].strip("`"): row for row in table}


def read_connections(page, monkeypatch):
    """Return the connections that the page's commands define, in their order."""
    found = []
    for block in read_blocks(page, "sh"):
        for name, value in re.findall(r"export (AIRFLOW_CONN_\w+)=('[^']*')", block):
            monkeypatch.setenv(name, shlex.split(value)[0])
            found.append(get_mps_connection(name.removeprefix("AIRFLOW_CONN_").lower()))
    return found


def test_fields_table_has_every_field_with_its_label():
    assert {name: row["Label"] for name, row in read_fields().items()} == LABELS


@pytest.mark.parametrize("name", [name for name in LABELS if name != "port"])
def test_fields_table_has_default_of_field(name):
    connection = MpsConnection.parse(Connection(conn_id="a", conn_type=CONN_TYPE), {})
    default = getattr(connection, ATTRIBUTES.get(name, name.removeprefix("extra.")))
    if name == "extra.cos_endpoint":
        default = CosEndpoint.from_connection(replace(connection, region="REGION")).endpoint
    text = f"{default:g}" if isinstance(default, float) else default or "empty"
    assert read_fields()[name]["Type and default"].rpartition(", ")[2].strip("`") == text


@pytest.mark.parametrize("name", EXTRA_FIELDS)
def test_fields_table_has_type_of_field(name):
    cell = read_fields()[f"extra.{name}"]["Type and default"]
    assert cell.startswith(("Number", "Seconds")) == (EXTRA_FIELDS[name]["schema"]["type"][0] == "number")
    assert name != "timeout" or f"at most {MAX_TIMEOUT_SECONDS:g}" in cell


@pytest.mark.parametrize("page", [GUIDE, REFERENCE], ids=["guide", "reference"])
def test_uri_and_json_define_the_same_connection(page, monkeypatch):
    as_json, as_uri, *_ = read_connections(page, monkeypatch)
    assert as_json == as_uri
    assert (as_json.secret_id, as_json.region) == ("SECRET-ID", "ap-singapore")


def test_role_example_names_a_role(monkeypatch):
    assert read_connections(GUIDE, monkeypatch)[2].role_for_messages.startswith("qcs::cam::")


def test_guide_names_type_and_domain():
    guide = GUIDE.read_text()
    assert HOOK_NAME in guide
    assert DEFAULT_HOST in guide


def test_failure_table_has_every_connection_error():
    (table,) = read_tables(read_section(GUIDE, "The connection test fails"))
    named = {code for row in table for code in re.findall(r"`([^`]+)`", row["Code or text"])}
    assert {code for code in ERROR_CODES if is_connection_error(code)} <= named
    assert all(row["Cause"].endswith(".") and row["Fix"].endswith(".") for row in table)


def test_failure_example_ends_with_the_advice_of_its_code():
    message = next(block for block in read_blocks(GUIDE, "text") if "AuthFailure" in block)
    code = re.search(r"AuthFailure\.\w+", message)[0]
    assert message.strip().endswith(f"{get_advice(code)}.")


def test_success_message_is_that_of_the_connection_test(emulator):
    is_working, message = MpsHook().test_connection()
    assert is_working
    host = re.search(r"127\.0\.0\.1:\d+", message)[0]
    assert message.replace(host, DEFAULT_HOST) in GUIDE.read_text()


def test_replace_a_key_states_the_grace_periods():
    section = read_section(GUIDE, "What happens if the old key ends first?")
    assert f"{ROTATION_GRACE_SECONDS / 60:g} minutes" in section
    assert f"else {FIRST_USE_GRACE_SECONDS:g} seconds" in section
    assert f"up to {MAX_BACKOFF_SECONDS:g} seconds" in section
    assert f"| {LOOK_UPS_SECONDS:g} seconds |" in section


def test_guide_states_the_times_of_tests_and_roles():
    guide = GUIDE.read_text()
    assert f"gives up after {TEST_TIMEOUT_SECONDS:g} seconds" in guide
    assert f"within {TEST_TIMEOUT_SECONDS:g} seconds" in guide
    assert f"for {credentials.ROLE_DURATION_SECONDS / 3600:g} hours" in guide
    assert f"{credentials.REFRESH_BEFORE_SECONDS / 60:g} minutes before" in guide


def test_certificate_variables_are_in_their_order():
    (table,) = read_tables(read_section(GUIDE, "Proxies and certificates"))
    assert ", ".join(f"`{name}`" for name in CA_VARIABLES) in {row["Variable"] for row in table}


def test_sdk_section_names_editions_and_version():
    section = read_section(GUIDE, "Which edition of the Tencent Cloud SDK?")
    version = ".".join(map(str, sdk_installation.MIN_SDK_VERSION))
    assert f"{sdk_installation.COMMON_EDITION}>={version}" in section
    assert all(f"`{edition}`" in section for edition in sdk_installation.FULL_EDITIONS)
