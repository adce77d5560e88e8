"""A whole Airflow with three users, the emulator, and a browser that reaches only this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dev.airflow_api import AirflowApi
from dev.standalone import Standalone
from tests.programs import require_program

CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Requests to any other host fail, as on a machine without a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
TIMEOUT_MILLISECONDS = 30_000
USERS = {"admin": "admin", "viewer": "viewer", "stranger": ""}
"""Roles of the simple auth manager; a user without a role cannot see any DAG."""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """An Airflow without any connection."""
    require_program("chromium")
    home = tmp_path_factory.mktemp("standalone")
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in USERS}))
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    # Long enough that even a slow machine polls first while the task is processing.
    options = ("--synthesis-time", "20")
    with Standalone(home, emulator=options, environment=environment, connect=False) as standalone:
        yield standalone


@pytest.fixture(scope="module")
def api(airflow):
    """Airflow's REST API, for what a test cannot see in the browser."""
    return AirflowApi(airflow.url, "admin", "admin")


@pytest.fixture(scope="module")
def chromium():
    """Not for the whole session: while it is there, no other test can run an event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_program("chromium"), args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def sign_in(airflow, chromium):
    """Sign a user in and return the page; at the end, check that no other host was requested."""
    hosts, contexts = set(), []

    def sign_in(user):
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, base_url=airflow.url)
        contexts.append(context)
        context.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MILLISECONDS)
        page.goto("/auth/login")
        page.locator("input[name=username]").fill(user)
        page.locator("input[type=password]").fill(user)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="Dags").first).to_be_visible(timeout=TIMEOUT_MILLISECONDS)
        return page

    yield sign_in
    for context in contexts:
        context.close()
    assert hosts - {None} == {"127.0.0.1"}


@pytest.fixture(scope="module")
def admin(sign_in):
    return sign_in("admin")


@pytest.fixture(scope="module")
def connection(airflow, admin):
    """The connection ``mps_default``, added by hand."""
    add_connection(admin, airflow, "mps_default", "emulator-key")


def add_connection(page: Page, airflow: Standalone, conn_id: str, key: str) -> None:
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("[name=connection_id]").fill(conn_id)
    form.get_by_role("combobox").first.click()
    page.keyboard.type("Tencent")
    page.get_by_role("option", name="Tencent Cloud MPS").click()
    screenshot(page, "connection-form")
    emulator = urlsplit(airflow.connection_uri)
    for name, value in {
        "host": emulator.hostname,
        "port": str(emulator.port),
        "schema": "http",
        "login": "emulator-id",
        "password": key,
    }.items():
        form.locator(f"[name={name}]").fill(value)
    form.get_by_text("Extra Fields", exact=True).click()
    form.locator("[name=element_region]").fill("ap-singapore")
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden(timeout=TIMEOUT_MILLISECONDS)


def screenshot(page: Page, name: str) -> None:
    """Save a screenshot for the documentation if SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1000)  # lets what moves come to rest
        page.screenshot(path=Path(folder, f"{name}.png"))
