import asyncio
import inspect
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.lock_holder import LockHolder
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.polling import poller
from airflow_provider_mps.storage.objects import read_object, replace_object
from airflow_provider_mps.triggers import batch, text_to_speech
from airflow_provider_mps.triggers import task as task_triggers
from airflow_provider_mps.triggers.batch import MAX_TASKS, TextToSpeechBatchTrigger
from tests.answers import PROCESSING
from tests.scripted_server import ScriptedServer, make_api_error


def get_event(trigger):
    async def collect():
        async with asyncio.timeout(30):
            return [event async for event in trigger.run()]

    (event,) = asyncio.run(collect())
    return json.loads(json.dumps(event.payload))


def test_serialize_round_trip_is_json():
    arguments = {
        "mps_task_ids": ["task-1", "task-2"],
        "mps_conn_id": "my_mps",
        "region": "ap-singapore",
        "poll_interval": 30.0,
        "deferred_at": 1.0,
        "deadline": 2.0,
        "lock_path": "s3://conn@bucket/clips/.mps-batch/lock.json",
        "lock_token": "0123",
    }
    path, serialized = TextToSpeechBatchTrigger(**arguments).serialize()
    assert json.loads(json.dumps(serialized)) == arguments
    assert path == "airflow_provider_mps.triggers.batch.TextToSpeechBatchTrigger"
    assert TextToSpeechBatchTrigger(**serialized).serialize() == (path, serialized)
    assert set(serialized) == set(inspect.signature(TextToSpeechBatchTrigger).parameters) - {"asked_at"}


def test_trigger_deferred_by_version_1_0_continues():
    trigger = TextToSpeechBatchTrigger(["task-1"], "my_mps", None, 30.0, asked_at=1.0, deadline=2.0)
    assert trigger.serialize()[1]["deferred_at"] == 1.0


def test_serialize_most_tasks_fits_into_mysql():
    from cryptography.fernet import Fernet

    task_ids = [f"1300057393-DubbingAsync-b67d6a1c-7e4b-4b62-9bb5-{number:012}" for number in range(MAX_TASKS)]
    _, serialized = TextToSpeechBatchTrigger(task_ids).serialize()
    encrypted = Fernet(Fernet.generate_key()).encrypt(json.dumps(serialized).encode())
    assert len(encrypted) < 65_535  # MySQL's TEXT


def test_run_all_tasks_finished_fires_once(submit):
    _, task_ids = submit(5, synthesis_time=0.5)
    assert get_event(TextToSpeechBatchTrigger(task_ids, poll_interval=0.1)) == {"finished": 5, "timed_out": False}


def test_run_permanent_errors_fires_for_the_worker(connect, caplog):
    with ScriptedServer(make_api_error("ResourceNotFound")) as server:
        connect(server.connection_uri())
        event = get_event(TextToSpeechBatchTrigger(["task-1", "task-2"], poll_interval=0.1))
    assert event == {"finished": 0, "timed_out": False}


def test_run_deadline_reports_timed_out(connect):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        trigger = TextToSpeechBatchTrigger(["task-1"], poll_interval=0.1, deadline=time.time() + 0.5)
        assert get_event(trigger) == {"finished": 0, "timed_out": True}


def test_run_waits_for_worker_exit(submit, monkeypatch):
    monkeypatch.setattr(task_triggers, "REQUEUE_GRACE_SECONDS", 1.0)
    _, task_ids = submit(1, synthesis_time=0)
    trigger = TextToSpeechBatchTrigger(task_ids, poll_interval=0.1, deferred_at=time.time())
    trigger.task_instance = SimpleNamespace(task_id="batch")
    started = time.monotonic()
    get_event(trigger)
    assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (TextToSpeechBatchTrigger(["task-1", "task-2"]), "At least 2 tasks continue at MPS and may be billed"),
        (text_to_speech.TextToSpeechTaskTrigger("task-1"), "Task task-1 continues at MPS and may be billed"),
    ],
)
def test_on_kill_logs_tasks_that_continue(trigger, message, caplog, capsys):
    asyncio.run(trigger.on_kill())
    assert message in caplog.text + capsys.readouterr().out


def test_triggers_share_one_poller(monkeypatch):
    # The batch's trigger has imported this function; the task's trigger imports it when it runs.
    assert batch.wait_for_task is poller.wait_for_task
    called = []

    async def record(mps_task_id, *_, **__):
        called.append(mps_task_id)
        raise InvalidRequestError("enough")

    monkeypatch.setattr(poller, "wait_for_task", record)
    get_event(text_to_speech.TextToSpeechTaskTrigger("task-1"))
    assert called == ["task-1"]


def test_repr_many_tasks_is_short():
    assert repr(TextToSpeechBatchTrigger(["task-1"] * 500)).endswith("TextToSpeechBatchTrigger of 500 tasks>")


@pytest.fixture
def lock(tmp_path):
    """The lock of a batch that has just been deferred."""
    path = ObjectStoragePath(f"file://{tmp_path}/lock.json")
    holder = LockHolder("dag", "run-1", "batch")
    replace_object(path, replace(holder.as_deferred(), expires_at=time.time()).to_bytes())
    return SimpleNamespace(path=path, arguments={"lock_path": str(path), "lock_token": holder.token})


def test_run_keeps_lock_until_on_kill_releases_it(connect, lock):
    async def main():
        trigger = TextToSpeechBatchTrigger(["task-1"], poll_interval=0.1, **lock.arguments)
        waiting = asyncio.ensure_future(anext(trigger.run()))
        async with asyncio.timeout(30):
            while LockHolder.parse(read_object(lock.path)).has_expired:
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


def test_run_triggerer_shutdown_leaves_lock_to_next(connect, lock):
    async def main():
        for _ in range(2):
            trigger = TextToSpeechBatchTrigger(["task-1"], poll_interval=0.1, **lock.arguments)
            beat = LockHolder.parse(read_object(lock.path)).beat
            waiting = asyncio.ensure_future(anext(trigger.run()))
            async with asyncio.timeout(30):
                while LockHolder.parse(read_object(lock.path)).beat == beat:
                    await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])

    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        asyncio.run(main())
    assert not LockHolder.parse(read_object(lock.path)).has_expired


def test_run_lock_not_writable_continues_waiting(submit, tmp_path):
    (tmp_path / "file").write_text("no folder")
    _, task_ids = submit(1, synthesis_time=0)
    lock = {"lock_path": f"file://{tmp_path}/file/lock.json", "lock_token": "token"}
    assert get_event(TextToSpeechBatchTrigger(task_ids, poll_interval=0.1, **lock)) == {
        "finished": 1,
        "timed_out": False,
    }
    asyncio.run(TextToSpeechBatchTrigger(task_ids, **lock).on_kill())
