"""
The UI in a real browser: add the connection, trigger a clip from the form, watch it and play it.

One module, so that all tests share one Airflow and one browser.
"""

import json
import re
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import expect

from tests.batching import wait_until
from tests.browser.conftest import TIMEOUT_MILLISECONDS, add_connection, screenshot
from tests.browser.steps import DAG, IS_DRAWN, listen, load_audio, open_form, page_of, submit_form

pytestmark = [
    pytest.mark.usefixtures("connection"),
    pytest.mark.airflow_standalone,
    pytest.mark.browser,
    pytest.mark.xdist_group("standalone"),
]


def row_of(page, conn_id):
    page.goto("/connections")
    return page.get_by_role("row").filter(has_text=conn_id)


def test_connection_added_by_hand_passes_its_test(admin, airflow):
    row_of(admin, "mps_default").get_by_role("button", name="Test Connection").click()
    accepted = admin.get_by_text(re.compile("MPS at 127.0.0.1:[0-9]+ accepted the credentials"))
    expect(accepted).to_be_visible(timeout=TIMEOUT_MILLISECONDS)


def test_wrong_key_shows_its_error(admin, airflow):
    add_connection(admin, airflow, "mps_wrong_key", "not-the-key")
    row_of(admin, "mps_wrong_key").get_by_role("button", name="Test Connection").click()
    expect(admin.get_by_text(re.compile(r"Check Password \(SecretKey\)\.$"))).to_be_visible(
        timeout=TIMEOUT_MILLISECONDS
    )
    screenshot(admin, "connection-wrong-key")


def test_connection_form_keeps_values_when_edited(admin, airflow, api):
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
    expect(form).to_be_hidden(timeout=TIMEOUT_MILLISECONDS)
    stored = api.call("GET", "/connections/mps_edited")
    given = {name: value for name, value in json.loads(stored["extra"]).items() if value is not None}
    assert given == {"region": "eu-frankfurt", "timeout": 7}
    # The key, which the form shows as stars, is still the one that was typed.
    tested = api.call("POST", "/connections/test", json={**stored, "connection_id": "mps_edited"})
    assert tested["status"], tested["message"]


def test_viewer_cannot_see_connections(sign_in):
    page = sign_in("viewer")
    page.goto("/connections")
    expect(page.get_by_text("403").or_(page.get_by_text("Forbidden")).first).to_be_visible(timeout=TIMEOUT_MILLISECONDS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, admin, connection, api):
    """A run that was triggered by hand and has succeeded: its id, and where the clip is."""
    place = tmp_path_factory.mktemp("clips") / "clip.wav"
    form = open_form(admin)
    form.locator("[name='element_text']").fill("Hello from a browser.\nThis is the second line.")
    screenshot(admin, "trigger-form")
    form.locator("[name='element_destination']").fill(f"file://{place}")
    form.get_by_test_id("trigger-dag-submit").click()
    expect(form).to_be_hidden(timeout=TIMEOUT_MILLISECONDS)
    (run,) = api.runs(DAG)
    tasks = api.wait(DAG, run["dag_run_id"])
    assert {state for state, _ in tasks.values()} == {"success"}
    return run["dag_run_id"], place


def test_clip_triggered_from_the_form_is_stored(admin, clip):
    run_id, place = clip
    assert place.exists()
    admin.goto(f"/dags/{DAG}/runs/{quote(run_id, safe='')}")
    expect(admin.get_by_role("link", name="store").last).to_be_visible(timeout=TIMEOUT_MILLISECONDS)
    admin.get_by_role("button", name=re.compile("graph", re.IGNORECASE)).first.click()
    screenshot(admin, "graph")
    admin.get_by_role("button", name=re.compile("grid", re.IGNORECASE)).first.click()  # Airflow remembers it


def test_trigger_form_validates_its_fields(admin, clip):
    form = open_form(admin)
    form.get_by_role("combobox").first.click()
    expect(admin.get_by_role("option", name="English")).to_be_visible()
    admin.keyboard.press("Escape")
    form = open_form(admin)
    button = form.get_by_test_id("trigger-dag-submit")
    expect(button).to_be_enabled()
    text = form.locator("[name='element_text']")
    text.fill("")
    text.blur()
    expect(button).to_be_disabled()
    text.fill("Hello")
    text.blur()
    expect(button).to_be_enabled()
    pitch = form.locator("[name='element_pitch']")
    pitch.fill("13")
    pitch.blur()
    expect(pitch).to_have_value("12")  # the form keeps it within its bounds


def test_xcoms_are_shown(admin, clip, api):
    run_id, place = clip
    admin.goto(page_of(run_id, "store", "/xcom"))
    expect(admin.get_by_text(f"file://{place}").first).to_be_visible(timeout=TIMEOUT_MILLISECONDS)
    for key in ("VoiceId", "duration", "return_value"):
        expect(admin.get_by_text(key, exact=True).first).to_be_visible()


@pytest.mark.parametrize(
    ("task_id", "links"),
    [
        ("submit", {"API: TextToSpeechAsync": r"/document/product/1041/79693$"}),
        (
            "wait",
            {
                "API: DescribeTextToSpeechAsyncTask": r"/document/product/1041/79696$",
                "Audio at MPS (expires)": r"^http://127\.0\.0\.1:\d+/async_dubbing/.+\.wav\?",
            },
        ),
        (
            "store",
            {
                "API: DescribeTextToSpeechAsyncTask": r"/document/product/1041/79696$",
                "Stored object": r"/tasks/store/plugin/listen$",
            },
        ),
    ],
)
def test_each_task_shows_its_extra_links(admin, clip, task_id, links):
    admin.goto(page_of(clip[0], task_id, "/details"))
    for name, address in links.items():
        expect(admin.get_by_role("link", name=name)).to_have_attribute(
            "href", re.compile(address), timeout=TIMEOUT_MILLISECONDS
        )
    if task_id == "wait":
        screenshot(admin, "links")


def test_wait_log_reports_each_status_once(admin, clip, api):
    log = api.log(DAG, clip[0], "wait")
    assert len(re.findall(r"Task \S+ is processing \(RequestId \S+\)", log)) == 1
    assert len(re.findall(r"Task \S+ has succeeded \(RequestId \S+\)", log)) == 1


def test_listen_view_plays_seeks_and_downloads(admin, clip, api):
    run_id, place = clip
    player = listen(admin, run_id)
    expect(player.locator("#size")).to_have_text(f"{place.stat().st_size:,} bytes", timeout=TIMEOUT_MILLISECONDS)
    audio = load_audio(player)
    duration = float(api.xcom(DAG, run_id, "store", key="duration"))
    assert audio.evaluate("audio => audio.duration") == pytest.approx(duration, abs=0.001)
    expect(player.locator("#duration")).to_have_text(f"{round(duration, 3):g} s")
    expect(player.locator("#VoiceId")).to_have_text(api.xcom(DAG, run_id, "store", key="VoiceId"))
    expect(player.locator("#path")).to_have_text(f"file://{place}")
    # Seeks by a click into the middle of the waveform.
    player.locator("#waveform").click()
    audio.evaluate("audio => audio.seeking ? new Promise(done => audio.addEventListener('seeked', done)) : true")
    assert audio.evaluate("audio => audio.currentTime") == pytest.approx(duration / 2, rel=0.05)
    admin.wait_for_timeout(500)
    assert player.locator("canvas").evaluate(IS_DRAWN)
    screenshot(admin, "listen")
    with admin.expect_download() as download:
        player.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "clip.wav"
    assert download.value.path().read_bytes() == place.read_bytes()


def test_listen_view_of_task_without_audio_says_so(admin, clip):
    player = listen(admin, clip[0], "submit")
    expect(player.locator("#message")).to_contain_text(
        "This task instance has stored no audio", timeout=TIMEOUT_MILLISECONDS
    )
    expect(player.locator("#player")).to_be_hidden()


def test_listen_works_for_a_viewer(sign_in, clip):
    player = listen(sign_in("viewer"), clip[0])
    expect(player.locator("#size")).to_contain_text("bytes", timeout=TIMEOUT_MILLISECONDS)


def test_listen_requires_dag_read_permission(airflow, sign_in, clip):
    page = sign_in("stranger")
    ids = f"dag_id={DAG}&run_id={quote(clip[0], safe='')}&task_id=store&map_index=-1"
    page.goto(f"/mps-player/listen.html?{ids}")
    expect(page.locator("#message")).to_have_text("You do not have permission to read this DAG.")
    expect(page.locator("#player")).to_be_hidden()
    for what in ("details", "audio", "waveform"):
        assert page.request.get(f"/mps-player/{what}?{ids}").status == 403
        assert httpx.get(f"{airflow.url}/mps-player/{what}?{ids}").status_code == 401  # not signed in


VOICES, CLONED_VOICE = "text_to_speech_voices", "text_to_speech_cloned_voice"


def test_voices_chosen_in_the_form_are_a_table_in_the_log(admin, api):
    form = open_form(admin, VOICES, "language")
    form.locator("[name='element_language']").fill("en")
    screenshot(admin, "voices-form")
    run_id = submit_form(admin, api, form, VOICES)
    admin.goto(page_of(run_id, "list_voices", dag=VOICES))
    expect(admin.get_by_text(re.compile(r"\| Name +\| VoiceId")).first).to_be_visible(timeout=TIMEOUT_MILLISECONDS)
    found = api.xcom(VOICES, run_id, "list_voices")
    voice_ids = json.loads(found) if isinstance(found, str) else found
    assert voice_ids
    for voice_id in voice_ids:
        expect(admin.get_by_text(voice_id).first).to_be_visible()
    screenshot(admin, "voices-log")


def test_cloned_voice_speaks_and_its_trial_plays(admin, api, tmp_path):
    form = open_form(admin, CLONED_VOICE)
    form.locator("[name='element_destination']").fill(f"file://{tmp_path}")
    run_id = submit_form(admin, api, form, CLONED_VOICE)
    voice_id = api.xcom(CLONED_VOICE, run_id, "clone", key="VoiceId")
    assert api.xcom(CLONED_VOICE, run_id, "delete") == voice_id
    for task_id, folder in {"clone": tmp_path / "trial", "store": tmp_path}.items():
        (file,) = folder.glob("*.*")
        player = listen(admin, run_id, task_id, CLONED_VOICE)
        expect(player.locator("#path")).to_have_text(f"file://{file}", timeout=TIMEOUT_MILLISECONDS)
        expect(player.locator("#VoiceId")).to_have_text(voice_id)
        assert load_audio(player).evaluate("audio => audio.duration") > 0


SUBTITLES, NOTIFICATION = "text_to_speech_subtitles", "text_to_speech_notification"
CUES = """\
1
00:00:01,000 --> 00:00:03,000
Hello from a browser.

2
00:00:04,000 --> 00:00:06,000
<i>This is the second cue.</i>
"""


def test_subtitles_pasted_in_the_form_become_a_track(admin, api, tmp_path):
    form = open_form(admin, SUBTITLES, "subtitles")
    screenshot(admin, "subtitles-form")
    form.locator("[name='element_subtitles']").fill(CUES)
    form.locator("[name='element_destination']").fill(f"file://{tmp_path}")
    run_id = submit_form(admin, api, form, SUBTITLES)
    player = listen(admin, run_id, "assemble", SUBTITLES)
    expect(player.locator("#path")).to_have_text(f"file://{tmp_path}/track.wav", timeout=TIMEOUT_MILLISECONDS)
    expect(player.locator("#VoiceId")).to_have_text(api.xcom(SUBTITLES, run_id, "assemble", key="VoiceId"))
    duration = float(api.xcom(SUBTITLES, run_id, "assemble", key="duration"))
    assert duration > 4  # the start of the second cue
    assert load_audio(player).evaluate("audio => audio.duration") == pytest.approx(duration, abs=0.001)
    admin.wait_for_timeout(500)
    assert player.locator("canvas").evaluate(IS_DRAWN)
    screenshot(admin, "listen-track")
    written = (tmp_path / "track.srt").read_text()
    assert re.findall(r"^(\S+) -->", written, re.MULTILINE) == ["00:00:01,000", "00:00:04,000"]
    assert "This is the second cue." in written


def test_short_text_plays_as_mp3(admin, api, tmp_path):
    form = open_form(admin, NOTIFICATION)
    form.locator("[name='element_destination']").fill(f"file://{tmp_path}/short.mp3")
    run_id = submit_form(admin, api, form, NOTIFICATION)
    player = listen(admin, run_id, "speak", NOTIFICATION)
    expect(player.locator("#path")).to_have_text(f"file://{tmp_path}/short.mp3", timeout=TIMEOUT_MILLISECONDS)
    assert (tmp_path / "short.mp3").read_bytes()[:4] != b"RIFF"
    duration = float(api.xcom(NOTIFICATION, run_id, "speak", key="duration"))
    # An MP3 has whole frames, and silence at both ends.
    assert load_audio(player).evaluate("audio => audio.duration") == pytest.approx(duration, abs=0.2)


APPROVAL = "text_to_speech_approval"


def test_batch_runs_after_its_approval(airflow, admin, api, tmp_path):
    form = open_form(admin, APPROVAL, "price")
    form.locator("[name='element_price']").fill("0.5")
    form.locator("[name='element_destination']").fill(f"file://{tmp_path}")
    form.get_by_test_id("trigger-dag-submit").click()
    expect(form).to_be_hidden(timeout=TIMEOUT_MILLISECONDS)
    (run,) = api.runs(APPROVAL)
    run_id = run["dag_run_id"]
    wait_until(lambda: api.tasks(APPROVAL, run_id)["approve"][0] == "awaiting_input")
    admin.goto(page_of(run_id, "approve", "/required_actions", dag=APPROVAL))
    question = admin.get_by_text("Speak 3 lines with 75 characters?").first
    expect(question).to_be_visible(timeout=TIMEOUT_MILLISECONDS)
    for cell in ("guide-voice", "0.0375"):  # a voice, and the cost of all
        expect(admin.get_by_role("cell", name=cell)).to_be_visible()
    # A response before the scheduler knows that the worker has left may fail the task.
    wait_until(lambda: airflow.has_ended_process(APPROVAL, "approve", run_id))
    screenshot(admin, "approval")
    assert api.tasks(APPROVAL, run_id)["speak"][0] is None
    admin.get_by_role("button", name="Approve").click()
    tasks = api.wait(APPROVAL, run_id)
    assert {state for state, _ in tasks.values()} == {"success"}
    assert len(list(tmp_path.glob("*.wav"))) == 3
