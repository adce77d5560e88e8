"""The connection as a person makes it: in Airflow's own form, in a real browser."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE, add_connection, screenshot

pytestmark = pytest.mark.usefixtures("connection")


def row_of(page, conn_id):
    page.goto("/connections")
    return page.get_by_role("row").filter(has_text=conn_id)


def test_a_connection_added_by_hand_passes_its_test(admin, airflow):
    row_of(admin, "mps_default").get_by_role("button", name="Test Connection").click()
    accepted = admin.get_by_text(re.compile("MPS at 127.0.0.1:[0-9]+ accepted the credentials"))
    expect(accepted).to_be_visible(timeout=PATIENCE)


def test_a_wrong_key_shows_its_sentence(admin, airflow):
    add_connection(admin, airflow, "mps_wrong_key", "not-the-key")
    row_of(admin, "mps_wrong_key").get_by_role("button", name="Test Connection").click()
    expect(admin.get_by_text(re.compile(r"Check Password \(SecretKey\)\.$"))).to_be_visible(timeout=PATIENCE)
    screenshot(admin, "connection-wrong-key")


def test_values_survive_saving_and_editing_and_what_is_empty_counts_as_absent(admin, airflow, api):
    add_connection(admin, airflow, "mps_edited", "emulator-key")
    row_of(admin, "mps_edited").get_by_role("button", name="Edit Connection").click()
    form = admin.get_by_role("dialog")
    expect(form.locator("[name=login]")).to_have_value("emulator-id")
    expect(form.locator("[name=schema]")).to_have_value("http")
    form.get_by_text("Extra Fields", exact=True).click()
    expect(form.locator("[name=element_region]")).to_have_value("ap-singapore")
    form.locator("[name=element_region]").fill("eu-frankfurt")
    form.locator("[name=element_timeout]").fill("7")
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden(timeout=PATIENCE)
    stored = api.call("GET", "/connections/mps_edited")
    given = {name: value for name, value in json.loads(stored["extra"]).items() if value is not None}
    assert given == {"region": "eu-frankfurt", "timeout": 7}
    # The key, which the form shows as stars, is still the one that was typed.
    tested = api.call("POST", "/connections/test", json={**stored, "connection_id": "mps_edited"})
    assert tested["status"], tested["message"]


def test_who_may_not_see_connections_is_turned_away(sign_in):
    page = sign_in("viewer")
    page.goto("/connections")
    expect(page.get_by_text("403").or_(page.get_by_text("Forbidden")).first).to_be_visible(timeout=PATIENCE)
