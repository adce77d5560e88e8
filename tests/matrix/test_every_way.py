"""
Test every feature on the installed Airflow.

The first line of each docstring is a row of ``docs/airflow-versions.md``. The id of a parameter replaces ``{way}``.
"""

from __future__ import annotations

import io
import json
import re
import time
import wave
from pathlib import Path

import httpx
import pytest
import soundfile
from airflow import __version__
from packaging.version import Version

from airflow_provider_mps.connection_form import EXTRA_FIELDS
from tests.matrix.conftest import DAG_ID, LINES, RUN_ID, TIMEOUT

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("standalone")]

AIRFLOW = Version(Version(__version__).base_version)
before = {version: Version(version) > AIRFLOW for version in ("3.0", "3.1", "3.2", "3.3")}


def test_airflow_lists_the_provider(every_way):
    """Airflow lists the provider."""
    providers = every_way.api.get("/providers").raise_for_status().json()["providers"]
    assert "airflow-provider-mps" in [provider["package_name"] for provider in providers]


def test_every_dag_is_parsed_without_an_error(every_way):
    """Airflow parses every DAG without an error."""
    files = {file.name for file in (every_way.standalone.home / "dags").glob("*.py")}
    deadline = time.monotonic() + TIMEOUT
    while True:
        errors = every_way.api.get("/importErrors").raise_for_status().json()["import_errors"]
        dags = every_way.api.get("/dags", params={"limit": 100}).raise_for_status().json()["dags"]
        missing = files - {Path(dag["fileloc"]).name for dag in dags}
        if errors or not missing or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert (errors, missing) == ([], set())


def test_connection_form_has_all_fields(every_way):
    """The connection form has every field."""
    url = every_way.standalone.url
    if before["3.0"]:
        page = every_way.api.get(f"{url}/connection/add", follow_redirects=True).text
        assert [f"extra__tencent_mps__{name}" in page for name in EXTRA_FIELDS] == [True] * len(EXTRA_FIELDS)
        assert "Tencent Cloud MPS" in page
        return
    forms = every_way.api.get(f"{url}/ui/connections/hook_meta").json()
    (form,) = (each for each in forms if each["connection_type"] == "tencent_mps")
    assert list(form["extra_fields"]) == list(EXTRA_FIELDS)
    assert form["standard_fields"]["login"]["title"] == "SecretId"


def test_connection_test_succeeds(every_way):
    """*Test Connection* succeeds."""
    tested = every_way.api.post("/connections/test", json=every_way.connection).raise_for_status().json()
    assert tested["status"] is True, tested["message"]


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("rescheduled", id="in reschedule mode"),
        pytest.param("poked", id="in poke mode"),
        pytest.param("deferred", id="that defers"),
        pytest.param("ended_from_trigger", id="with `end_from_trigger`, which has no effect before Airflow 3.3,"),
    ],
)
def test_sensor_returns_the_same_in_every_mode(every_way, way):
    """A sensor {way} returns the result."""
    assert every_way.state(way) == "success"
    result = every_way.xcom(way)
    assert result["TaskId"] == every_way.mps_task_id(way)
    waits = len(re.findall("is processing", every_way.log(way)))
    assert waits in ({0, 1} if way == "poked" else {1})
    assert every_way.has_triggerer_log(way) is (way in {"deferred", "ended_from_trigger"})
    assert (result["Status"], result["VoiceId"]) == ("success", "voice-1")
    assert result["duration"] > 0


def test_failed_task_is_not_retried(every_way):
    """A task that MPS failed is not retried."""
    for way in ("failed", "failed_deferred"):
        assert every_way.state(way) == "failed"
        assert every_way.try_number(way) == 1
        assert re.search(r"ErrorCode 110.*RequestId", every_way.log(way), re.DOTALL)
        assert every_way.has_triggerer_log(way) is (way == "failed_deferred")


def test_soft_fail_skips(every_way):
    """`soft_fail` skips the sensor."""
    assert every_way.state("skipped") == "skipped"
    assert every_way.try_number("skipped") == 1


@pytest.mark.parametrize(
    "way",
    [pytest.param("waited", id="in the worker"), pytest.param("waited_deferred", id="in the triggerer")],
)
def test_operator_waits_and_returns_task_id(every_way, way):
    """`TextToSpeechOperator` waits {way} and returns the task id."""
    assert every_way.state(way) == "success"
    assert every_way.xcom(way) == every_way.xcom(way, "TaskId")


def test_decorated_function_is_spoken(every_way):
    """`@task.text_to_speech` submits what a function returns, and waits in the triggerer."""
    assert every_way.state("decorated") == "success"
    assert every_way.xcom("decorated") == every_way.xcom("decorated", "TaskId")
    assert every_way.has_triggerer_log("decorated")
    assert every_way.log("decorated").count("The function was called") == 1
    assert every_way.xcom("stored_decorated", "VoiceId") == "voice-2"
    assert every_way.state("decorated_submit") == "success"


def test_retry_does_not_resubmit_with_a_task_state_store(every_way):
    """A retry resumes the MPS task (from Airflow 3.3), or logs that it submits again."""
    assert every_way.state("broken_once") == "success"
    first, second = (every_way.folder / "attempts.txt").read_text().split()
    assert (first == second) is not before["3.3"]
    is_logged = "This Airflow has no task state store" in every_way.log("broken_once")
    assert is_logged is before["3.3"]


def test_mapped_text_is_not_rendered(every_way):
    """A mapped text is not rendered as a template."""
    assert every_way.state("mapped") == "success"
    assert (every_way.folder / "mapped.txt").read_text() == "{{ conn.mps_default.password }}"


def test_audio_is_stored_in_a_folder(every_way):
    """The audio is stored in a local folder."""
    (clip,) = (every_way.folder / "clips").iterdir()
    assert every_way.xcom("stored") == f"file://{clip}"
    assert every_way.xcom("stored", "VoiceId") == "voice-1"
    with wave.open(str(clip)) as audio:
        assert audio.getnframes() / audio.getframerate() == every_way.xcom("stored", "duration")


def test_audio_in_s3_is_skipped_if_it_exists(every_way):
    """The audio is stored in S3, and skipped if it exists."""
    (clip,) = (every_way.folder / "clips").iterdir()
    assert every_way.s3.seen("clip.wav") == clip.read_bytes()
    path = f"{every_way.s3.root}clip.wav"
    assert every_way.xcom("stored_in_s3") == every_way.xcom("stored_again") == path
    assert "nothing was moved" in every_way.log("stored_again")


def test_asset_scheduled_dag_gets_an_event_for_each_clip(every_way):
    """A DAG scheduled on an asset alias gets an event for each clip."""
    (clip,) = (every_way.folder / "clips").iterdir()
    expected = f"file://{clip} has {clip.stat().st_size} bytes"
    reports_nothing = before["3.1"] and not before["3.0"]
    if reports_nothing:
        expected = "Airflow 3.0 does not pass the events that started this run"
    deadline = time.monotonic() + TIMEOUT
    while expected not in (log := every_way.log("publish")):
        assert time.monotonic() < deadline, log
        time.sleep(1)
    if reports_nothing:
        pytest.skip("Airflow 3.0 starts a DAG that is scheduled on an alias without any event")


def test_partition_key_is_in_the_asset_event(every_way):
    """An asset event has the partition key of its clip (from Airflow 3.3), or a warning is logged."""
    assert every_way.state("synthesized") == "success"
    is_logged = "This Airflow has no partition keys of asset events" in every_way.log("synthesized")
    assert is_logged is before["3.3"]
    if not before["3.0"]:
        (event,) = (
            event
            for event in every_way.api.get("/assets/events").raise_for_status().json()["asset_events"]
            if event["source_task_id"] == "synthesized"
        )
        assert event["extra"]["partition_key"] == "every-way"
        assert before["3.3"] or event["partition_key"] == "every-way"


@pytest.mark.parametrize(
    "way",
    [pytest.param("batch", id="in the worker"), pytest.param("batch_deferred", id="in the triggerer")],
)
def test_batch_stores_every_line(every_way, way):
    """A batch that waits {way} stores every line."""
    assert every_way.state(way) == "success"
    read = {
        "batch": lambda name: (every_way.folder / "batch" / name).read_bytes(),
        "batch_deferred": lambda name: every_way.s3.seen(f"batch/{name}"),
    }[way]
    rows = [json.loads(line) for line in read("results.jsonl").splitlines()]
    assert [row["id"] for row in rows] == [line["id"] for line in LINES]
    assert all(read(f"{row['id']}.wav")[:4] == b"RIFF" for row in rows)
    assert len({row["TaskId"] for row in rows}) == len(LINES)


def test_batch_dry_run_counts_submits_without_a_call(every_way):
    """A dry run of a batch counts the submits without calling MPS."""
    assert every_way.xcom("dry_run")["to_submit"] == len(LINES)


def test_short_text_is_stored_as_mp3(every_way):
    """`TextToSpeechSynthesizeOperator` stores an MP3 with one call."""
    assert every_way.state("synthesized") == "success"
    clip = Path(every_way.xcom("synthesized").removeprefix("file://"))
    with soundfile.SoundFile(clip) as audio:
        assert (audio.format, audio.samplerate) == ("MP3", 24000)
        assert audio.frames / audio.samplerate == pytest.approx(every_way.xcom("synthesized", "duration"), abs=0.2)
    assert every_way.xcom("synthesized", "VoiceId") == "voice-1"


def test_batch_speaks_each_cue_of_subtitles(every_way):
    """A batch speaks each cue of a subtitle file."""
    assert every_way.state("dubbed") == "success"
    rows = [json.loads(line) for line in every_way.s3.seen("dubbed/results.jsonl").splitlines()]
    assert [(row["start"], row["end"], row["characters"]) for row in rows] == [(1, 2, 14), (3.5, 5, 29)]
    assert all(every_way.s3.seen(f"dubbed/{row['id']}.wav")[:4] == b"RIFF" for row in rows)


def test_track_has_clips_at_the_times_of_their_cues(every_way):
    """A track has each clip at the time of its cue, and subtitles that fit."""
    assert every_way.state("track") == "success"
    assert every_way.xcom("track") == f"{every_way.s3.root}track.flac"
    samples, rate = soundfile.read(io.BytesIO(every_way.s3.seen("track.flac")))
    loud = [index / rate for index in range(len(samples)) if abs(samples[index]) > 0.01]
    assert loud[0] == pytest.approx(1, abs=0.05)
    assert not [time for time in loud if 2.5 < time < 3.5]
    assert len(samples) / rate == pytest.approx(every_way.xcom("track", "duration"), abs=0.001)
    subtitles = every_way.s3.seen("track.vtt").decode()
    assert re.findall(r"^(?:00:)?(00:\d\d\.\d+) -->", subtitles, re.MULTILINE) == ["00:01.000", "00:03.500"]
    assert "The second cue, on two lines." in subtitles


def test_cloned_voice_speaks_by_name_and_is_deleted(every_way):
    """A cloned voice has a trial audio, speaks by its name, and is deleted."""
    voice_id = every_way.xcom("cloned")
    assert every_way.xcom("deleted") == voice_id == every_way.xcom("cloned", "VoiceId")
    assert Path(every_way.xcom("cloned", "trial_audio").removeprefix("file://")).read_bytes()[:4] == b"RIFF"
    assert every_way.state("by_name") == "success"
    assert voice_id in every_way.log("by_name")


@pytest.mark.parametrize(
    "way",
    [pytest.param("designed", id="in the worker"), pytest.param("designed_deferred", id="in the triggerer")],
)
def test_voice_is_designed(every_way, way):
    """`DesignVoiceOperator` waits {way} and returns the VoiceId."""
    assert every_way.xcom(way) == every_way.xcom(way, "VoiceId")


def test_metrics_reach_statsd(every_way):
    """Metrics of workers and of the triggerer reach StatsD."""
    lines = 2 * len(LINES) + 2  # of the batches, and of the subtitles
    batches = every_way.statsd.sums(connection="mps_default", operator="TextToSpeechBatchOperator")
    assert (batches["submitted"], batches["stored"]) == (lines, lines)
    assert batches["audio_seconds"] > 0
    assert ("reconnected" in every_way.statsd.sums(operator="BrokenOnce")) is not before["3.3"]
    waiting = every_way.statsd.gauges(connection="mps_default", operator="TextToSpeechTaskTrigger")
    assert (max(waiting) > 0, waiting[-1]) == (True, 0)


def test_logs_contain_no_secret(every_way):
    """Logs contain no secret key and no signed URL."""
    url = every_way.xcom("rescheduled")["AudioUrl"]
    signature = url.rpartition("sign=")[2]
    secret_key = re.search(r":([^:@]+)@", every_way.standalone.connection_uri.partition("://")[2])[1]
    excluded = {"emulator.log"}  # which offers its own key
    if before["3.1"] and not before["3.0"]:
        excluded.add("standalone.log")  # Airflow 3.0's scheduler prints every XCom
    files = [file for file in every_way.standalone.home.rglob("*.log*") if file.is_file()]
    logs = "\n".join(file.read_text() for file in files if file.name not in excluded)
    assert len(signature) > 20
    assert len(secret_key) > 5
    assert signature not in logs
    assert secret_key not in logs


@pytest.mark.skipif(before["3.1"], reason="Airflow shows views of plugins on a task instance from 3.1 on")
def test_listen_plays_stored_audio(every_way):
    """The *Listen* view plays the stored audio."""
    url = every_way.standalone.url
    place = {"dag_id": DAG_ID, "run_id": RUN_ID, "task_id": "stored"}
    details = every_way.api.get(f"{url}/mps-player/details", params=place).json()
    assert details["duration"] == every_way.xcom("stored", "duration")
    head = every_way.api.get(f"{url}/mps-player/audio", params=place, headers={"Range": "bytes=0-3"})
    assert (head.status_code, head.content) == (206, b"RIFF")
    whole = every_way.api.get(f"{url}/mps-player/audio", params=place).content
    (clip,) = (every_way.folder / "clips").iterdir()
    assert whole == clip.read_bytes()
    nothing = every_way.api.get(f"{url}/mps-player/details", params={**place, "task_id": "submit"})
    assert nothing.status_code == httpx.codes.NOT_FOUND


def test_cos_path_keeps_bucket_and_uri_drops_connection():
    """A `cos://` path keeps its bucket, and its asset URI has no connection id."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    import airflow_provider_mps.operators.text_to_speech  # noqa: F401 - as every DAG that stores does
    from airflow_provider_mps.version_compat import make_uri

    path = ObjectStoragePath("cos://mps_default@clips-1250000000/day/") / "clip.wav"
    assert path.path == "clips-1250000000/day/clip.wav"
    assert str(path) == "cos://mps_default@clips-1250000000/day/clip.wav"
    assert make_uri(path) == "cos://clips-1250000000/day/clip.wav"
