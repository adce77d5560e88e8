"""The example DAG as a person runs it: the Trigger form in Airflow's own UI, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from dev.standalone import Standalone
from tests.conftest import require_program

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


def test_a_clip_triggered_from_the_form_succeeds_and_is_stored(page, tmp_path):
    page.goto("/dags/text_to_speech")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    expect(form.get_by_text("Text", exact=True).first).to_be_visible()
    form.locator("[name='element_text']").fill("Hello from a browser.")
    form.locator("[name='element_destination']").fill(f"file://{tmp_path}/clip.wav")
    screenshot(page, "trigger-form")
    form.get_by_role("button", name="Trigger").last.click()
    page.goto("/dags/text_to_speech")
    page.wait_for_timeout(60000)
    screenshot(page, "run")
    assert (tmp_path / "clip.wav").exists()
