"""The example DAG as a person runs it: the Trigger form in Airflow's own UI, in a real browser."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

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
]
MINUTE = 60_000


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    require_program("chromium")
    with Standalone(tmp_path_factory.mktemp("standalone")) as standalone:
        yield standalone


@pytest.fixture
def page(airflow):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_program("chromium"), args=CHROMIUM_OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=airflow.url)
        page.set_default_timeout(MINUTE)
        yield page
        browser.close()


def screenshot(page: Page, name: str) -> None:
    """Keep a picture for the documentation, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"))


def test_a_clip_triggered_from_the_form_succeeds_and_is_stored(airflow, page, tmp_path):
    page.goto("/dags/text_to_speech")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    form.locator("[name='element_text']").fill("Hello from a browser.")
    screenshot(page, "trigger-form")
    form.locator("[name='element_destination']").fill(f"file://{tmp_path}/clip.wav")
    form.get_by_test_id("trigger-dag-submit").click()
    expect(form).to_be_hidden(timeout=MINUTE)
    run_id = _await_success(airflow)
    page.goto(f"/dags/text_to_speech/runs/{quote(run_id)}")
    expect(page.get_by_role("link", name="store").last).to_be_visible(timeout=MINUTE)
    page.wait_for_timeout(1000)  # lets the grid draw its colours
    screenshot(page, "run")
    assert (tmp_path / "clip.wav").exists()


def _await_success(airflow: Standalone) -> str:
    """Wait for the only run, and return its id."""
    with httpx.Client(base_url=airflow.url) as api:
        token = api.get("/auth/token").json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        deadline = time.monotonic() + 120
        while True:
            (run,) = api.get("/api/v2/dags/text_to_speech/dagRuns", headers=headers).json()["dag_runs"]
            if run["state"] in {"success", "failed"}:
                assert run["state"] == "success", airflow.log.read_text()[-3000:]
                return str(run["dag_run_id"])
            assert time.monotonic() < deadline, f"the run is still {run['state']}"
            time.sleep(1)
