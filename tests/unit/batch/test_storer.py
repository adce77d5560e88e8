import asyncio
import errno
import logging
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath
from fastcrc import crc64

from airflow_provider_mps.batch import storer as module
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.storer import Storer, ending_of
from airflow_provider_mps.errors import AudioTransferError, DestinationError
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.store_errors import explaining
from airflow_provider_mps.text_to_speech import TaskStatus, TextToSpeechTask
from tests.scripted_server import HANG, Reply, ScriptedServer, audio_reply

AUDIO = b"RIFF1234WAVE" * 100
pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_BETWEEN_TRIES", PollInterval(0.01))
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


def make(clips, ask=None):
    return Storer(clips, ask, 20, logging.getLogger("batch"))


def store(storer, *tasks):
    async def all_of_them():
        return [await storer.store(row(f"line-{number}"), one) for number, one in enumerate(tasks)]

    return asyncio.run(all_of_them())


def test_a_line_is_stored_under_its_id_with_the_audios_ending_and_told_whole(clips):
    with ScriptedServer(audio_reply(AUDIO)) as server:
        (stored,) = store(make(clips), task(server))
    assert stored == row("line-0").now(
        LineStatus.STORED,
        path=str(clips / "line-0.wav"),
        voice_id="voice-1",
        duration=1.5,
        size=len(AUDIO),
        crc64=str(crc64.xz(AUDIO)),
    )
    assert (clips / "line-0.wav").read_bytes() == AUDIO


def test_store_cancelled_during_the_commit_returns_the_stored_row(clips, monkeypatch):
    committed, cancelled = threading.Event(), threading.Event()
    store_audio = module.store_audio

    def slow(*arguments, **options):
        stored = store_audio(*arguments, **options)
        committed.set()
        assert cancelled.wait(60)
        return stored

    monkeypatch.setattr(module, "store_audio", slow)
    monkeypatch.setattr(module, "STOP_TIMEOUT_SECONDS", 60)

    async def main(server):
        storing = asyncio.create_task(make(clips).store(row(), task(server)))
        while not committed.is_set():
            await asyncio.sleep(0.01)
        storing.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        return await storing

    with ScriptedServer(audio_reply(AUDIO)) as server:
        stored = asyncio.run(main(server))
    assert (stored.status, stored.size) == (LineStatus.STORED, len(AUDIO))
    assert (clips / "a.wav").read_bytes() == AUDIO


def test_store_cancelled_before_the_commit_is_discarded(clips):
    async def main(server):
        storing = asyncio.create_task(make(clips).store(row(), task(server)))
        while not server.requests:
            await asyncio.sleep(0.01)
        storing.cancel()
        await storing

    with ScriptedServer(HANG) as server, pytest.raises(asyncio.CancelledError):
        asyncio.run(main(server))
    assert not (clips / "a.wav").exists()


def test_a_name_that_no_path_takes_is_told_for_its_line(clips):
    async def main(server):
        return await make(clips).store(row("part::1"), task(server))

    with ScriptedServer(audio_reply(AUDIO)) as server:
        unstored = asyncio.run(main(server))
    assert unstored.status is LineStatus.UNSTORED
    assert "part::1.wav cannot be a file in" in unstored.error


@pytest.mark.parametrize(
    ("link", "ending"),
    [
        ("https://h/a.wav?x=1.mp3", ".wav"),
        ("https://h/a.MP3", ".mp3"),
        ("https://h/a", ""),
        ("https://h/a.wav%2F..%2Fx", ""),
        ("https://h/a.averylongending", ""),
        ("https://h/?sign=a.wav", ""),
    ],
)
def test_the_ending_is_that_of_the_links_file(link, ending):
    assert ending_of(link) == ending


def test_an_expired_link_is_asked_for_anew(clips):
    with ScriptedServer(Reply(b"expired", 403), audio_reply(AUDIO)) as server:

        async def ask(task_id):
            asked.append(task_id)
            return task(server)

        asked = []
        (stored,) = store(make(clips, ask), task(server))
    assert stored.status is LineStatus.STORED
    assert asked == ["task-1"]


def test_a_line_that_cannot_be_stored_is_told_and_may_be_stored_later(clips):
    with ScriptedServer(Reply(b"<html>", headers={"Content-Type": "text/html"})) as server:
        (stored,) = store(make(clips), task(server))
        assert len(server.requests) == module.TRIES
    assert stored.status is LineStatus.UNSTORED
    assert stored.task_id == "task-1"
    assert "web page" in stored.error


def test_a_full_disk_is_not_tried_again_for_what_room_there_is_then_is_kept(clips, monkeypatch):
    def full(*_, **__):
        tries.append(1)
        with explaining(clips):
            raise OSError(errno.ENOSPC, "no space left on device")

    tries = []
    monkeypatch.setattr(module, "store_audio", full)
    with ScriptedServer(audio_reply(AUDIO)) as server:
        (unstored,) = store(make(clips), task(server))
    assert unstored.status is LineStatus.UNSTORED
    assert len(tries) == 1


def test_a_task_without_a_link_is_told_and_not_tried_again_with_the_same_answer(clips, monkeypatch):
    tries, look = [], module.audio_url_of
    monkeypatch.setattr(module, "audio_url_of", lambda task: tries.append(1) or look(task))
    (stored,) = store(make(clips), TextToSpeechTask("task-1", TaskStatus.SUCCESS))
    assert stored.status is LineStatus.UNSTORED
    assert len(tries) == 1
    assert "gives no AudioUrl" in stored.error


def test_asking_anew_that_fails_is_told(clips):
    async def ask(_):
        raise AirflowException("MPS is gone")

    with ScriptedServer(Reply(b"expired", 403)) as server:
        (stored,) = store(make(clips, ask), task(server))
    assert stored.status is LineStatus.UNSTORED
    assert "MPS is gone" in stored.error


def test_where_nothing_can_be_stored_the_batch_is_stopped(tmp_path):
    (tmp_path / "file").write_text("no folder")
    storer = make(ObjectStoragePath(f"file://{tmp_path}/file"))
    with ScriptedServer(audio_reply(AUDIO)) as server, pytest.raises(DestinationError, match="10 lines in a row"):
        store(storer, *[task(server)] * (module.MAX_FAILURES + 1))


def test_where_it_is_the_audio_that_cannot_be_had_a_retry_may_go_on(clips):
    with ScriptedServer(Reply(status=500)) as server, pytest.raises(AudioTransferError, match="lines in a row"):
        store(make(clips), *[task(server)] * module.MAX_FAILURES)


def test_a_fresh_link_that_does_not_come_in_time_is_told_for_its_line(clips):
    async def never(_):
        await asyncio.sleep(60)

    with ScriptedServer(Reply(status=403)) as server:
        storer = Storer(clips, never, 0.3, logging.getLogger("batch"))
        (unstored,) = store(storer, task(server))
    assert unstored.status is LineStatus.UNSTORED
    assert "task-1" in unstored.error


def test_one_that_is_stored_in_between_shows_that_others_can_be(clips, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 1)
    fine, broken = audio_reply(AUDIO), Reply(b"<html>", headers={"Content-Type": "text/html"})
    with ScriptedServer(*([broken] * 9 + [fine]) * 2) as server:
        rows = store(make(clips), *[task(server)] * 20)
    assert [stored.status for stored in rows].count(LineStatus.STORED) == 2


def test_stopping_ends_what_is_under_way_and_leaves_nothing_of_it(clips):
    with ScriptedServer(audio_reply(b"x" * 100_000, drip=0.01)) as server:
        storer = make(clips)

        async def stop():
            storing = asyncio.create_task(storer.store(row(), task(server)))
            while not server.requests:
                await asyncio.sleep(0.01)
            storer.stop()
            return await storing

        assert asyncio.run(stop()).status is LineStatus.UNSTORED
    assert list((clips).iterdir()) == []


def test_several_are_stored_at_once_and_not_too_many(clips):
    with ScriptedServer(HANG) as server:
        storer = make(clips)

        async def many():
            storing = [asyncio.create_task(storer.store(row(f"{n}"), task(server))) for n in range(12)]
            while len(server.requests) < module.AT_ONCE:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            storer.stop()
            for one in storing:
                one.cancel()
            return len(server.requests)

        assert asyncio.run(many()) == module.AT_ONCE


@pytest.mark.parametrize("fault", ["stalls", "fails"])
def test_transfer_timeout_is_the_time_of_one_line_and_all_its_attempts(clips, monkeypatch, fault):
    """It counts from the turn of the line: ten others that are slow do not use it up."""
    monkeypatch.setattr(module, "TRIES", 10**6)
    monkeypatch.setattr("airflow_provider_mps.transfer.link.TIMEOUT", (10, 0.2))
    limits = []

    class Recorded(module.Deadline):
        def __init__(self, seconds, *arguments):
            limits.append(seconds)
            super().__init__(seconds, *arguments)

    monkeypatch.setattr(module, "Deadline", Recorded)
    monkeypatch.setattr("airflow_provider_mps.audio.Deadline", None)
    with ScriptedServer(HANG if fault == "stalls" else Reply(status=500)) as server:
        storer = Storer(clips, None, 0.5, logging.getLogger("batch"))
        started = time.monotonic()
        (unstored,) = store(storer, task(server))
        took = time.monotonic() - started
    assert unstored.status is LineStatus.UNSTORED
    assert limits == [0.5]
    assert took < 10


def test_pause_that_would_outlast_the_time_of_a_line_is_not_made(clips, monkeypatch):
    monkeypatch.setattr(module, "_BETWEEN_TRIES", PollInterval(21.0))
    monkeypatch.setattr(module, "TRIES", 2)
    with ScriptedServer(Reply(b"<html>", headers={"Content-Type": "text/html"})) as server:
        (unstored,) = store(Storer(clips, None, 20, logging.getLogger("batch")), task(server))
        assert len(server.requests) == 1
    assert "web page" in unstored.error
