"""Every fault that a download can meet, on the way to every kind of destination: whole, or not at all."""

import logging
import socket
import traceback

import pytest

from airflow_provider_mps.errors import AudioTransferError
from tests.scripted_server import ScriptedServer, json_reply
from tests.storing import OLD, make_wav, open_place, run_servers, store, store_at

pytestmark = pytest.mark.usefixtures("no_waiting")

SECONDS = {"file": 100, "s3 in one request": 9, "s3 in parts": 660}
"""Of audio, 32 kB each: a file has several blocks then, and an upload three parts."""


servers = pytest.fixture(run_servers, scope="module")
place = pytest.fixture(open_place, params=SECONDS)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    return {name: make_wav(folder / f"{seconds}.wav", seconds) for name, seconds in SECONDS.items()}


@pytest.fixture
def record(request, servers, place, audio):
    return lambda faults: servers.record(audio[request.node.callspec.params["place"]], faults)


@pytest.fixture
def short_patience(monkeypatch):
    """Wait less long for a silent server."""
    return lambda seconds: monkeypatch.setattr("airflow_provider_mps.transfer.link.TIMEOUT", (10, seconds))


@pytest.mark.parametrize(
    "faults",
    [
        "truncate",
        "stall",
        "reset",
        "wrong-crc",
        "replace",
        "forbidden",
        "not-found",
        "unavailable",
        "redirect",
        "redirect:always",
        "no-crc:always",
        "no-length:always",
        "too-long:always",
        "truncate, ignore-range:always",
        "truncate, forbidden",
        "truncate, replace, reset",
        "unavailable:3, truncate, reset, stall, not-found, wrong-crc",
    ],
)
def test_audio_is_stored_whole_in_spite_of(record, place, faults, short_patience):
    short_patience(0.5)
    place.put(OLD)
    recording = record(faults)
    xcoms = store(recording, place)
    assert place.seen() == recording.read()
    assert place.litter() == []
    assert xcoms["VoiceId"] == "voice-1"


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ("truncate:always", "bytes arrived"),
        ("stall:always", "timed out"),
        ("reset:always", "reset"),
        ("wrong-crc:always", "CRC-64"),
        ("replace:always", "bytes arrived"),
        ("forbidden:always", "link was refused"),
        ("not-found:always", "link was refused"),
        ("unavailable:always", "HTTP 503"),
        ("truncate, unavailable:always", "HTTP 503"),
        ("redirect-to-file", "'file'"),
        ("truncate, redirect-to-file", "'file'"),
    ],
)
def test_nothing_is_stored_and_an_older_object_stays_because_of(
    record, place, faults, why, short_patience, caplog, capfd
):
    caplog.set_level(logging.DEBUG, logger="urllib3")  # which is the one that would quote a link
    short_patience(0.05)  # that it may be too short for another fault than a stall does no harm: all shall fail
    place.put(OLD)
    recording = record(faults)
    with pytest.raises(AudioTransferError, match=why) as caught:
        store(recording, place)
    assert place.seen() == OLD
    assert place.litter() == []
    said = str(caught.value)
    assert recording.task_id in said
    assert "Nothing was stored, and what was at its destination is unchanged" in said
    # Airflow logs an error with all that caused it.
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + capfd.readouterr().out
    assert recording.task_id in told
    assert "sign=" not in told


@pytest.mark.parametrize("faults", ["truncate:always", "wrong-crc:always"])
def test_where_nothing_was_there_is_nothing_afterwards(record, place, faults):
    with pytest.raises(AudioTransferError):
        store(record(faults), place)
    assert place.seen() is None
    assert place.litter() == []


def test_each_break_is_told_in_the_tasks_log_without_the_links_signature(record, place, capfd):
    recording = record("truncate, forbidden, wrong-crc")
    store(recording, place)
    told = capfd.readouterr().out
    assert told.count(f"Fetching the audio of task {recording.task_id} broke off") == 3
    assert f"Stored the audio of task {recording.task_id} at {place.destination}" in told
    assert "sign=" not in told


def test_a_server_that_is_gone_is_told_without_the_links_signature(connect, no_waiting, tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        link = f"http://127.0.0.1:{gone.getsockname()[1]}/clip.wav?expires=1&sign=secret"
    answer = json_reply({"Response": {"Status": "success", "AudioUrl": link, "RequestId": "r"}})
    with ScriptedServer(answer) as server:
        connect(server.connection_uri())
        with pytest.raises(AudioTransferError, match="refused") as caught:
            store_at("task-1", f"file://{tmp_path}/clip.wav")
    assert list(tmp_path.iterdir()) == []
    assert "sign=" not in "".join(traceback.format_exception(caught.value)) + capfd.readouterr().out
