"""What a user does in Airflow's UI: trigger a DAG from its form, open a task, listen to it."""

from urllib.parse import quote

from playwright.sync_api import expect

from tests.browser.conftest import TIMEOUT_MILLISECONDS

DAG = "text_to_speech"
IS_DRAWN = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)"
"""JavaScript: whether a canvas shows anything."""


def open_form(page, dag=DAG, field="text"):
    page.goto(f"/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    expect(form.locator(f"[name='element_{field}']")).to_be_visible(timeout=TIMEOUT_MILLISECONDS)
    return form


def page_of(run_id, task_id, view="", dag=DAG):
    return f"/dags/{dag}/runs/{quote(run_id, safe='')}/tasks/{task_id}{view}"


def listen(page, run_id, task_id="store", dag=DAG):
    page.goto(page_of(run_id, task_id, dag=dag))
    page.get_by_role("link", name="Listen").click()
    return page.frame_locator("iframe[title=Listen]")


def load_audio(player):
    """Return the player's audio element, with its metadata."""
    audio = player.locator("audio")
    audio.evaluate("audio => audio.readyState || new Promise(ready => audio.addEventListener('loadedmetadata', ready))")
    return audio


def submit_form(page, api, form, dag):
    """Press Trigger, and return the id of the run after its end."""
    form.get_by_test_id("trigger-dag-submit").click()
    expect(form).to_be_hidden(timeout=TIMEOUT_MILLISECONDS)
    (run,) = api.runs(dag)
    tasks = api.wait(dag, run["dag_run_id"])
    assert {state for state, _ in tasks.values()} == {"success"}
    return run["dag_run_id"]
