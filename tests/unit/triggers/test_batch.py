import asyncio
import inspect
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.lease import Holder
from airflow_provider_mps.batch.objects import read_object, replace_object
from airflow_provider_mps.triggers import batch, text_to_speech
from airflow_provider_mps.triggers.batch import MOST_TASKS, TextToSpeechBatchTrigger
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer, api_error


def the_event_of(trigger):
    async def collect():
        async with asyncio.timeout(30):
            return [event async for event in trigger.run()]

    (event,) = asyncio.run(collect())
    return json.loads(json.dumps(event.payload))


def test_its_arguments_are_json_and_make_it_anew():
    arguments = {
        "mps_task_ids": ["task-1", "task-2"],
        "mps_conn_id": "my_mps",
        "region": "ap-singapore",
        "poll_interval": 30.0,
        "asked_at": 1.0,
        "deadline": 2.0,
        "lock_path": "s3://conn@bucket/clips/.mps-batch/lock.json",
        "lock_token": "0123",
    }
    path, told = TextToSpeechBatchTrigger(**arguments).serialize()
    assert json.loads(json.dumps(told)) == arguments
    assert path == "airflow_provider_mps.triggers.batch.TextToSpeechBatchTrigger"
    assert TextToSpeechBatchTrigger(**told).serialize() == (path, told)
    assert set(told) == set(inspect.signature(TextToSpeechBatchTrigger).parameters)


def test_its_arguments_fit_into_every_database():
    from cryptography.fernet import Fernet

    task_ids = [f"1300057393-DubbingAsync-b67d6a1c-7e4b-4b62-9bb5-{number:012}" for number in range(MOST_TASKS)]
    _, told = TextToSpeechBatchTrigger(task_ids).serialize()
    encrypted = Fernet(Fernet.generate_key()).encrypt(json.dumps(told).encode())
    assert len(encrypted) < 65_535  # MySQL's TEXT


def test_it_fires_once_when_all_have_finished_whether_they_succeeded_or_not(submit):
    _, task_ids = submit(5, synthesis_time=0.5)
    assert the_event_of(TextToSpeechBatchTrigger(task_ids, poll_interval=0.1)) == {"finished": 5, "timed_out": False}


def test_what_cannot_be_waited_for_is_left_to_the_worker(connect, caplog):
    with ScriptedServer(api_error("ResourceNotFound")) as server:
        connect(server.connection_uri())
        event = the_event_of(TextToSpeechBatchTrigger(["task-1", "task-2"], poll_interval=0.1))
    assert event == {"finished": 0, "timed_out": False}


def test_it_tells_when_the_time_is_up(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechBatchTrigger(["task-1"], poll_interval=0.1, deadline=time.time() + 0.5)
        assert the_event_of(trigger) == {"finished": 0, "timed_out": True}


def test_it_does_not_fire_before_the_worker_that_deferred_has_gone(submit, monkeypatch):
    monkeypatch.setattr(text_to_speech, "HANDOVER", 1.0)
    _, task_ids = submit(1, synthesis_time=0)
    trigger = TextToSpeechBatchTrigger(task_ids, poll_interval=0.1, asked_at=time.time())
    trigger.task_instance = SimpleNamespace(task_id="batch")
    started = time.monotonic()
    the_event_of(trigger)
    assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        (TextToSpeechBatchTrigger(["task-1", "task-2"]), "2 tasks and more go on at MPS, and may be billed"),
        (text_to_speech.TextToSpeechTaskTrigger("task-1"), "Task task-1 goes on at MPS, and may be billed"),
    ],
)
def test_a_user_who_ends_the_waiting_is_told_what_goes_on(trigger, said, caplog, capsys):
    asyncio.run(trigger.on_kill())
    assert said in caplog.text + capsys.readouterr().out


def test_waiting_uses_the_poller_that_all_share():
    assert batch.wait_for_task is text_to_speech.wait_for_task


def test_a_log_that_names_it_is_not_filled_with_ids():
    assert repr(TextToSpeechBatchTrigger(["task-1"] * 500)).endswith("TextToSpeechBatchTrigger of 500 tasks>")


@pytest.fixture
def lock(tmp_path):
    """The lock of a batch that has just been deferred."""
    path = ObjectStoragePath(f"file://{tmp_path}/lock.json")
    holder = Holder("dag", "run-1", "batch")
    replace_object(path, replace(holder.parked(), expires_at=time.time()).to_bytes())
    return SimpleNamespace(path=path, arguments={"lock_path": str(path), "lock_token": holder.token})


def test_destination_is_locked_while_the_trigger_waits_and_a_user_who_ends_it_releases_it(connect, lock):
    async def main():
        trigger = TextToSpeechBatchTrigger(["task-1"], poll_interval=0.1, **lock.arguments)
        waiting = asyncio.ensure_future(anext(trigger.run()))
        async with asyncio.timeout(30):
            while Holder.parse(read_object(lock.path)).has_expired:
                await asyncio.sleep(0.01)
        # As Airflow does it: the trigger is cancelled first.
        waiting.cancel()
        await asyncio.wait([waiting])
        assert read_object(lock.path)
        await trigger.on_kill()
        assert read_object(lock.path) is None

    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        asyncio.run(main())


def test_triggerer_that_shuts_down_leaves_the_lock_to_the_next_one(connect, lock):
    async def main():
        for _ in range(2):
            trigger = TextToSpeechBatchTrigger(["task-1"], poll_interval=0.1, **lock.arguments)
            beat = Holder.parse(read_object(lock.path)).beat
            waiting = asyncio.ensure_future(anext(trigger.run()))
            async with asyncio.timeout(30):
                while Holder.parse(read_object(lock.path)).beat == beat:
                    await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])

    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        asyncio.run(main())
    assert not Holder.parse(read_object(lock.path)).has_expired


def test_lock_that_cannot_be_renewed_does_not_end_the_waiting(submit, tmp_path):
    (tmp_path / "file").write_text("no folder")
    _, task_ids = submit(1, synthesis_time=0)
    lock = {"lock_path": f"file://{tmp_path}/file/lock.json", "lock_token": "token"}
    assert the_event_of(TextToSpeechBatchTrigger(task_ids, poll_interval=0.1, **lock)) == {
        "finished": 1,
        "timed_out": False,
    }
    asyncio.run(TextToSpeechBatchTrigger(task_ids, **lock).on_kill())
