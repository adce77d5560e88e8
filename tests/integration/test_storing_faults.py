"""Download faults with every kind of destination: the audio is stored whole, or not at all."""

import logging
import socket
import traceback

import pytest

from airflow_provider_mps.exceptions import AudioTransferError
from tests.scripted_server import ScriptedServer, make_json_reply
from tests.storing import OLD, make_wav, open_destination, run_servers, store, store_at

pytestmark = pytest.mark.usefixtures("no_waiting")

SECONDS = {"file": 100, "s3 in one request": 9, "s3 in parts": 660}
"""Length of the audio, 32 kB per second: several blocks for a file, three parts for an upload."""


servers = pytest.fixture(run_servers, scope="module")
destination = pytest.fixture(open_destination, params=SECONDS)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    return {name: make_wav(folder / f"{seconds}.wav", seconds) for name, seconds in SECONDS.items()}


@pytest.fixture
def record(request, servers, destination, audio):
    return lambda faults: servers.record(audio[request.node.callspec.params["destination"]], faults)


@pytest.fixture
def set_read_timeout(monkeypatch):
    """Set the timeout for a stalled server in seconds."""
    return lambda seconds: monkeypatch.setattr("airflow_provider_mps.storage.http.TIMEOUT_SECONDS", (10, seconds))


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
def test_audio_is_stored_whole_despite_faults(record, destination, faults, set_read_timeout):
    if "stall" in faults:
        set_read_timeout(0.5)
    destination.put(OLD)
    recording = record(faults)
    xcoms = store(recording, destination)
    assert destination.read() == recording.read()
    assert destination.list_leftovers() == []
    assert xcoms["VoiceId"] == "voice-1"


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ("truncate:always", "bytes arrived"),
        ("stall:always", "timed out"),
        ("reset:always", "reset"),
        ("wrong-crc:always", "CRC-64"),
        ("replace:always", "bytes arrived"),
        ("forbidden:always", "signed URL was rejected"),
        ("not-found:always", "signed URL was rejected"),
        ("unavailable:always", "HTTP 503"),
        ("truncate, unavailable:always", "HTTP 503"),
        ("redirect-to-file", "'file'"),
        ("truncate, redirect-to-file", "'file'"),
    ],
)
def test_permanent_fault_keeps_older_object(record, destination, faults, problem, set_read_timeout, caplog, capfd):
    caplog.set_level(logging.DEBUG, logger="urllib3")  # the logger that could quote a signed URL
    if "stall" in faults:  # other faults need the usual timeout: on a loaded machine, a short one would come first
        set_read_timeout(0.05)
    destination.put(OLD)
    recording = record(faults)
    with pytest.raises(AudioTransferError, match=problem) as caught:
        store(recording, destination)
    assert destination.read() == OLD
    assert destination.list_leftovers() == []
    message = str(caught.value)
    assert recording.task_id in message
    assert "Nothing was stored, and the destination is unchanged" in message
    # Airflow logs an error with its causes.
    log = "".join(traceback.format_exception(caught.value)) + caplog.text + capfd.readouterr().out
    assert recording.task_id in log
    assert "sign=" not in log


@pytest.mark.parametrize("faults", ["truncate:always", "wrong-crc:always"])
def test_permanent_fault_leaves_empty_destination_empty(record, destination, faults):
    with pytest.raises(AudioTransferError):
        store(record(faults), destination)
    assert destination.read() is None
    assert destination.list_leftovers() == []


def test_failed_attempts_are_logged_without_signature(record, destination, capfd):
    recording = record("truncate, forbidden, wrong-crc")
    store(recording, destination)
    log = capfd.readouterr().out
    assert log.count(f"Downloading the audio of task {recording.task_id} failed") == 3
    assert f"Stored the audio of task {recording.task_id} at {destination.uri}" in log
    assert "sign=" not in log


def test_unreachable_server_error_hides_signature(connect, no_waiting, tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as closed_server:
        url = f"http://127.0.0.1:{closed_server.getsockname()[1]}/clip.wav?expires=1&sign=secret"
    response = make_json_reply({"Response": {"Status": "success", "AudioUrl": url, "RequestId": "r"}})
    with ScriptedServer(response) as server:
        connect(server.connection_uri())
        with pytest.raises(AudioTransferError, match="refused") as caught:
            store_at("task-1", f"file://{tmp_path}/clip.wav")
    assert list(tmp_path.iterdir()) == []
    assert "sign=" not in "".join(traceback.format_exception(caught.value)) + capfd.readouterr().out
