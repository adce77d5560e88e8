import asyncio
import errno
import logging
import threading
import time
from dataclasses import replace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath
from fastcrc import crc64

from airflow_provider_mps.batch import storer as module
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.storer import Storer, get_audio_suffix
from airflow_provider_mps.exceptions import AudioTransferError, DestinationError
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.speech.task import TaskStatus, TextToSpeechTask
from airflow_provider_mps.storage.errors import translate_storage_errors
from tests.scripted_server import HANG, Reply, ScriptedServer, make_audio_reply

AUDIO = b"RIFF1234WAVE" * 100
pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture(autouse=True)
def fast_backoff(monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF", PollInterval(0.01))
    monkeypatch.setattr(module.random, "random", lambda: 0.0)


@pytest.fixture
def clips(tmp_path):
    return ObjectStoragePath(f"file://{tmp_path}/clips")


def task(server, name="clip.wav", duration=1.5):
    return TextToSpeechTask(
        "task-1", TaskStatus.SUCCESS, f"{server.url}/{name}?sign=x", "voice-1", {"duration": duration}
    )


def row(name="a"):
    return Row(name, 1, LineStatus.PROCESSING, task_id="task-1", request="print")


def make_storer(clips, query_task=None):
    return Storer(clips, query_task, 20, logging.getLogger("batch"))


def store(storer, *tasks):
    async def store_all():
        return [await storer.store(row(f"line-{number}"), one) for number, one in enumerate(tasks)]

    return asyncio.run(store_all())


def test_store_writes_the_audio_by_id_and_returns_a_full_row(clips):
    with ScriptedServer(make_audio_reply(AUDIO)) as server:
        (stored,) = store(make_storer(clips), task(server))
    assert stored == row("line-0").with_status(
        LineStatus.STORED,
        path=str(clips / "line-0.wav"),
        voice_id="voice-1",
        duration=1.5,
        size=len(AUDIO),
        crc64=str(crc64.xz(AUDIO)),
    )
    assert (clips / "line-0.wav").read_bytes() == AUDIO


def test_store_keeps_the_voice_of_the_row_unless_mps_reports_one(clips):
    async def store_named(reported):
        with ScriptedServer(make_audio_reply(AUDIO)) as server:
            finished = replace(task(server), voice_id=reported)
            return await make_storer(clips).store(replace(row(), voice_id="voice-2"), finished)

    assert asyncio.run(store_named(None)).voice_id == "voice-2"
    assert asyncio.run(store_named("voice-1")).voice_id == "voice-1"


def test_store_cancelled_during_commit_returns_the_stored_row(clips, monkeypatch):
    committed, cancelled = threading.Event(), threading.Event()
    store_audio = module.store_audio

    def store_slowly(*arguments, **options):
        stored = store_audio(*arguments, **options)
        committed.set()
        assert cancelled.wait(60)
        return stored

    monkeypatch.setattr(module, "store_audio", store_slowly)
    monkeypatch.setattr(module, "STOP_TIMEOUT_SECONDS", 60)

    async def main(server):
        storing = asyncio.create_task(make_storer(clips).store(row(), task(server)))
        while not committed.is_set():
            await asyncio.sleep(0.01)
        storing.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        return await storing

    with ScriptedServer(make_audio_reply(AUDIO)) as server:
        stored = asyncio.run(main(server))
    assert (stored.status, stored.size) == (LineStatus.STORED, len(AUDIO))
    assert (clips / "a.wav").read_bytes() == AUDIO


def test_store_cancelled_before_commit_discards_the_audio(clips):
    async def main(server):
        storing = asyncio.create_task(make_storer(clips).store(row(), task(server)))
        while not server.requests:
            await asyncio.sleep(0.01)
        storing.cancel()
        await storing

    with ScriptedServer(HANG) as server, pytest.raises(asyncio.CancelledError):
        asyncio.run(main(server))
    assert not (clips / "a.wav").exists()


def test_store_with_an_invalid_path_fails_only_its_line(clips):
    async def main(server):
        return await make_storer(clips).store(row("part::1"), task(server))

    with ScriptedServer(make_audio_reply(AUDIO)) as server:
        failed = asyncio.run(main(server))
    assert failed.status is LineStatus.STORE_FAILED
    assert "part::1.wav cannot be a file in" in failed.error


@pytest.mark.parametrize(
    ("url", "suffix"),
    [
        ("https://h/a.wav?x=1.mp3", ".wav"),
        ("https://h/a.MP3", ".mp3"),
        ("https://h/a", ""),
        ("https://h/a.wav%2F..%2Fx", ""),
        ("https://h/a.averylongending", ""),
        ("https://h/?sign=a.wav", ""),
    ],
)
def test_audio_suffix_is_taken_from_the_url_path(url, suffix):
    assert get_audio_suffix(url) == suffix


def test_expired_url_is_replaced(clips):
    with ScriptedServer(Reply(b"expired", 403), make_audio_reply(AUDIO)) as server:

        async def query_task(task_id):
            queries.append(task_id)
            return task(server)

        queries = []
        (stored,) = store(make_storer(clips, query_task), task(server))
    assert stored.status is LineStatus.STORED
    assert queries == ["task-1"]


def test_failed_store_returns_a_row_that_can_be_retried(clips):
    with ScriptedServer(Reply(b"<html>", headers={"Content-Type": "text/html"})) as server:
        (stored,) = store(make_storer(clips), task(server))
        assert len(server.requests) == module.MAX_ATTEMPTS
    assert stored.status is LineStatus.STORE_FAILED
    assert stored.task_id == "task-1"
    assert "web page" in stored.error


@pytest.fixture
def fill_disk(clips, monkeypatch):
    """Let each attempt to store fail, because a disk is full."""

    def fail(*_, **__):
        attempts.append(1)
        with translate_storage_errors(clips):
            raise OSError(errno.ENOSPC, "no space left on device")

    attempts = []
    monkeypatch.setattr(module, "store_audio", fail)
    return attempts


def test_full_disk_stops_the_batch_at_once(clips, fill_disk):
    full_message = "The storage is full, so the batch was stopped"
    with ScriptedServer(make_audio_reply(AUDIO)) as server, pytest.raises(DestinationError, match=full_message):
        store(make_storer(clips), task(server))
    assert len(fill_disk) == 1


def test_full_temporary_folder_fails_only_its_line(fill_disk):
    clips = ObjectStoragePath("memory://bucket/clips")
    with ScriptedServer(make_audio_reply(AUDIO)) as server:
        (failed,) = store(make_storer(clips), task(server))
    assert failed.status is LineStatus.STORE_FAILED
    assert "no space left on device" in failed.error
    assert len(fill_disk) == 1


def test_task_without_audio_url_is_not_retried(clips, monkeypatch):
    attempts, get_audio_url = [], TextToSpeechTask.get_audio_url
    monkeypatch.setattr(TextToSpeechTask, "get_audio_url", lambda task: attempts.append(1) or get_audio_url(task))
    (stored,) = store(make_storer(clips), TextToSpeechTask("task-1", TaskStatus.SUCCESS))
    assert stored.status is LineStatus.STORE_FAILED
    assert len(attempts) == 1
    assert "without an AudioUrl" in stored.error


def test_failed_query_for_a_fresh_url_is_reported(clips):
    async def query_task(_):
        raise AirflowException("MPS is unavailable")

    with ScriptedServer(Reply(b"expired", 403)) as server:
        (stored,) = store(make_storer(clips, query_task), task(server))
    assert stored.status is LineStatus.STORE_FAILED
    assert "MPS is unavailable" in stored.error


def test_consecutive_destination_errors_stop_the_batch(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    storer = make_storer(ObjectStoragePath(f"file://{tmp_path}/file"))
    with (
        ScriptedServer(make_audio_reply(AUDIO)) as server,
        pytest.raises(DestinationError, match="10 consecutive lines"),
    ):
        store(storer, *[task(server)] * (module.MAX_CONSECUTIVE_FAILURES + 1))


def test_consecutive_download_errors_raise_a_retriable_error(clips):
    with ScriptedServer(Reply(status=500)) as server, pytest.raises(AudioTransferError, match="10 consecutive lines"):
        store(make_storer(clips), *[task(server)] * module.MAX_CONSECUTIVE_FAILURES)


def test_query_for_a_fresh_url_respects_the_timeout(clips):
    async def hang(_):
        await asyncio.sleep(60)

    with ScriptedServer(Reply(status=403)) as server:
        storer = Storer(clips, hang, 0.3, logging.getLogger("batch"))
        (failed,) = store(storer, task(server))
    assert failed.status is LineStatus.STORE_FAILED
    assert "task-1" in failed.error


def test_stored_line_resets_the_failure_count(clips, monkeypatch):
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 1)
    good, bad = make_audio_reply(AUDIO), Reply(b"<html>", headers={"Content-Type": "text/html"})
    with ScriptedServer(*([bad] * 9 + [good]) * 2) as server:
        rows = store(make_storer(clips), *[task(server)] * 20)
    assert [stored.status for stored in rows].count(LineStatus.STORED) == 2


def test_stop_discards_transfers_in_progress(clips):
    with ScriptedServer(make_audio_reply(b"x" * 100_000, drip=0.01)) as server:
        storer = make_storer(clips)

        async def stop():
            storing = asyncio.create_task(storer.store(row(), task(server)))
            while not server.requests:
                await asyncio.sleep(0.01)
            storer.stop()
            return await storing

        assert asyncio.run(stop()).status is LineStatus.STORE_FAILED
    assert list((clips).iterdir()) == []


def test_concurrent_transfers_are_limited(clips):
    with ScriptedServer(HANG) as server:
        storer = make_storer(clips)

        async def many():
            storing = [asyncio.create_task(storer.store(row(f"{n}"), task(server))) for n in range(12)]
            while len(server.requests) < module.MAX_CONCURRENT_TRANSFERS:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            storer.stop()
            for one in storing:
                one.cancel()
            return len(server.requests)

        assert asyncio.run(many()) == module.MAX_CONCURRENT_TRANSFERS


@pytest.mark.parametrize("fault", ["stalls", "fails"])
def test_transfer_timeout_covers_all_attempts_of_one_line(clips, monkeypatch, fault):
    """It starts when the line gets its slot, so that slow transfers of other lines do not count."""
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 10**6)
    monkeypatch.setattr("airflow_provider_mps.storage.http.TIMEOUT_SECONDS", (10, 0.2))
    limits = []

    class RecordedDeadline(module.Deadline):
        def __init__(self, seconds, *arguments):
            limits.append(seconds)
            super().__init__(seconds, *arguments)

    monkeypatch.setattr(module, "Deadline", RecordedDeadline)
    monkeypatch.setattr("airflow_provider_mps.storage.transfer.Deadline", None)
    with ScriptedServer(HANG if fault == "stalls" else Reply(status=500)) as server:
        storer = Storer(clips, None, 0.5, logging.getLogger("batch"))
        started = time.monotonic()
        (failed,) = store(storer, task(server))
        took = time.monotonic() - started
    assert failed.status is LineStatus.STORE_FAILED
    assert limits == [0.5]
    assert took < 10


def test_backoff_beyond_the_timeout_is_skipped(clips, monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF", PollInterval(21.0))
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 2)
    with ScriptedServer(Reply(b"<html>", headers={"Content-Type": "text/html"})) as server:
        (failed,) = store(Storer(clips, None, 20, logging.getLogger("batch")), task(server))
        assert len(server.requests) == 1
    assert "web page" in failed.error
