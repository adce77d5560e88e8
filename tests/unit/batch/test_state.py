import asyncio
import errno
import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch import state as state_module
from airflow_provider_mps.batch.lock_holder import LockHolder
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.state import BatchState
from airflow_provider_mps.batch.write_ahead_log import WriteAheadLog
from airflow_provider_mps.exceptions import DestinationError
from airflow_provider_mps.storage.errors import translate_storage_errors

LOG = logging.getLogger("batch")
FULL = "The storage is full, so the batch was stopped: lines that were being submitted are unknown, and may be billed"


@pytest.fixture
def make_state(tmp_path):
    """Make the state of a run; all runs have the same destination."""

    def make(run="run-1", max_tries=0, try_number=1, **options):
        destination = ObjectStoragePath(f"file://{tmp_path}/clips")
        values = {"manifest": "m.jsonl", "destination": destination, "subtitle_encoding": None, "resume": True}
        options = SimpleNamespace(**{**values, **options})
        return BatchState(options, LockHolder("dag", run, "task", try_number=try_number, max_tries=max_tries), LOG)

    return make


def complete_run(state, *rows, finished=True):
    """Let a run record rows, and end."""

    async def work():
        await state.restore()
        for one in rows:
            await state.record(one)
        await state.write_results(finished=finished)

    asyncio.run(work())


def row(name="a", status=LineStatus.PROCESSING):
    return Row(name, 1, status, task_id=f"task-{name}")


def test_retry_restores_all_recorded_rows(make_state):
    async def first():
        state = make_state()
        await state.restore()
        await state.record(row("a"))
        await state.write_results(finished=False)
        await state.record(row("b"))
        await state.flush()

    async def second():
        state = make_state()
        await state.restore()
        return [state.row_store.find(name).task_id for name in ("a", "b")]

    asyncio.run(first())
    assert asyncio.run(second()) == ["task-a", "task-b"]


@pytest.mark.parametrize(("run", "is_known"), [("run-1", True), ("run-2", False)])
def test_resume_false_ignores_results_of_other_runs_only(make_state, run, is_known):
    async def second():
        state = make_state(run, resume=False)
        await state.restore()
        known = state.row_store.find("a")
        return known is not None

    complete_run(make_state(), row("a"), finished=False)
    assert asyncio.run(second()) is is_known


def test_damaged_results_are_not_overwritten(make_state, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "results.jsonl").write_text("damaged\n")

    async def attempt():
        state = make_state()
        with pytest.raises(DestinationError, match="is not a result manifest of this version"):
            await state.restore()
        await state.write_results(finished=False)

    asyncio.run(attempt())
    assert (tmp_path / "clips" / "results.jsonl").read_text() == "damaged\n"


def test_full_disk_stops_the_batch_and_a_retry_resumes(make_state, monkeypatch, caplog):
    write_rows, attempts = WriteAheadLog._write_rows, []

    def fail(self, rows):
        attempts.append(rows)
        with translate_storage_errors(self._folder):
            raise OSError(errno.ENOSPC, "No space left on device")

    async def fill_disk():
        state = make_state()
        await state.restore()
        await state.record(row("a"))
        await state.record(row("b", LineStatus.SUBMITTING))
        monkeypatch.setattr(WriteAheadLog, "_write_rows", fail)
        with pytest.raises(DestinationError, match=FULL) as caught:
            await state.record(row("b"))
        assert "No space left on device" in str(caught.value)
        with pytest.raises(DestinationError, match=FULL):
            await state.record(row("c", LineStatus.SUBMITTING))
        await state.flush()

    async def retry():
        state = make_state(try_number=2)
        await state.restore()
        return [state.row_store.find(name) for name in ("a", "b", "c")]

    asyncio.run(fill_disk())
    assert len(attempts) == 1  # not repeated: each attempt delays the stop
    assert "State of line b was not written: processing, task task-b" in caplog.text
    monkeypatch.setattr(WriteAheadLog, "_write_rows", write_rows)
    recorded, unknown, never_sent = asyncio.run(retry())
    assert recorded.task_id == "task-a"
    assert unknown.status is LineStatus.SUBMITTING
    assert never_sent is None


@pytest.mark.parametrize(
    ("run", "max_tries", "is_reset"), [("run-1", 0, False), ("run-1", 1, True), ("run-2", 0, True)]
)
def test_failed_lines_are_reset_by_clear_and_new_run_only(make_state, run, max_tries, is_reset):
    async def second():
        state = make_state(run, max_tries)
        await state.restore()
        return state.row_store.find("a").status

    complete_run(make_state(), row("a", LineStatus.FAILED))
    assert asyncio.run(second()) is (LineStatus.PENDING if is_reset else LineStatus.FAILED)


@pytest.mark.parametrize(("ended", "try_number", "is_reset"), [(1, 2, True), (1, 1, False), (None, 2, False)])
def test_clear_after_lowered_retries_resets_failed_lines(make_state, tmp_path, ended, try_number, is_reset):
    """Airflow's max_tries stays as it was then, but only a clear can follow an attempt that failed permanently."""

    async def second():
        state = make_state(try_number=try_number)
        await state.restore()
        return state.row_store.find("a").status

    complete_run(make_state(), row("a", LineStatus.FAILED))
    if ended:
        results = Results(ObjectStoragePath(f"file://{tmp_path}/clips"))
        results.mark_ended(results.read_summary()["run"], ended)
    assert asyncio.run(second()) is (LineStatus.PENDING if is_reset else LineStatus.FAILED)


def test_emptied_result_manifest_raises_an_error(make_state, tmp_path):
    async def second():
        state = make_state("run-2")
        with pytest.raises(DestinationError, match="has 0 of at least 1 lines"):
            await state.restore()

    complete_run(make_state(), row("a", LineStatus.STORED))
    (tmp_path / "clips" / "results.jsonl").write_bytes(b"")
    asyncio.run(second())


def test_accepted_lines_of_earlier_manifests_are_counted(make_state):
    async def both():
        state = make_state()
        await state.restore()
        await state.record(row("a"))
        await state.record(row("b", LineStatus.STORED))
        assert state.row_store.count_orphans() == 0
        state.row_store.forget_line_numbers()
        assert state.row_store.count_orphans() == 1

    asyncio.run(both())


class LostLeaseError(AirflowException):
    """What a lost lease raises."""


def read_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("checks", [0, 1, 2])
def test_batch_without_its_lease_changes_no_results(make_state, tmp_path, checks):
    """The next change is the results, the summary, or the removal of the write-ahead log."""

    async def ensure_held():
        if not left:
            raise LostLeaseError("lost")
        left.pop()

    async def attempt():
        state = make_state()
        state._ensure_held = ensure_held
        left.extend(range(100))
        await state.restore()
        await state.record(row("a"))
        left[:] = range(checks)
        before = read_files(tmp_path)
        with pytest.raises(LostLeaseError):
            await state.write_results(finished=True)
        return before

    left = []
    before = asyncio.run(attempt())
    after = read_files(tmp_path)
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == set(["results.jsonl", "summary.json"][:checks])


def test_unconfirmed_lease_leaves_the_results_unchanged(make_state, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.batch.state.LEASE_TIMEOUT_SECONDS", 0.1)

    async def attempt():
        state = make_state()
        await state.restore()
        state._ensure_held = lambda: asyncio.sleep(60)
        before = read_files(tmp_path)
        with pytest.raises(AirflowException, match=r"results in .* were not written: the lease could not be confirmed"):
            await state.write_results(finished=False)
        return before

    assert asyncio.run(attempt()) == read_files(tmp_path)


SENT = Row("a", 1, LineStatus.SUBMITTING, request="print", sent_at="2026-01-01T00:00:00+00:00")
UNKNOWN = SENT.with_status(LineStatus.UNKNOWN)
LATE = {
    "accepted": SENT.with_status(LineStatus.PROCESSING, task_id="task-1"),
    "not accepted": SENT.with_status(LineStatus.PENDING),
    "rejected": SENT.with_status(LineStatus.REJECTED, error="no such voice"),
}


@pytest.fixture
def take_over(make_state):
    """Suspend a batch after it sent a line, and let another batch take over, for which the line is unknown."""

    async def take_over():
        suspended, following = make_state(), make_state("run-2")
        await suspended.restore()
        await suspended.record(SENT)
        await following.restore()
        assert following.row_store.find("a").status is LineStatus.SUBMITTING
        following.row_store.put(replace(following.row_store.find("a"), line=1))
        await following.record(UNKNOWN)
        return suspended, following

    return take_over


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("time", ["while the other batch runs", "after it ended"])
def test_late_outcome_of_a_suspended_batch_is_merged(make_state, take_over, late, time):
    async def main():
        suspended, following = await take_over()
        if time == "while the other batch runs":
            await suspended.record(late)
            accepted = await following.merge_late_rows()
            assert accepted == ([late] if late.status is LineStatus.PROCESSING else [])
            await following.write_results(finished=False)
            known = following.row_store.find("a")
            assert known.line == 1
        else:
            await following.write_results(finished=False)
            await suspended.record(late)
            last = make_state("run-3")
            await last.restore()
            known = last.row_store.find("a")
        assert (known.status, known.task_id, known.error) == (late.status, late.task_id, late.error)

    asyncio.run(main())


@pytest.mark.parametrize(
    "change", [{"sent_at": "2026-01-01T00:01:00+00:00"}, {"request": "other"}], ids=["time", "text"]
)
def test_late_outcome_of_another_submit_replaces_nothing(make_state, take_over, caplog, change):
    async def main():
        suspended, following = await take_over()
        stored = replace(SENT, status=LineStatus.STORED, task_id="task-2", **change)
        await following.record(stored)
        await following.write_results(finished=True)
        await suspended.record(LATE["accepted"])
        last = make_state("run-3")
        await last.restore()
        assert last.row_store.find("a") == replace(stored, line=None)

    asyncio.run(main())
    assert "was also accepted as task task-1" in caplog.text


def test_late_row_of_a_new_line_is_added(make_state):
    async def main():
        suspended, following = make_state(), make_state("run-2")
        await suspended.restore()
        await following.restore()
        await following.write_results(finished=False)
        await suspended.record(SENT)
        await suspended.record(LATE["accepted"])
        last = make_state("run-3")
        await last.restore()
        return last.row_store.find("a")

    assert asyncio.run(main()) == replace(LATE["accepted"], line=None)


def test_only_the_last_late_row_of_a_line_counts(take_over, make_state):
    """Its submit was throttled and repeated within one second: the first outcome says nothing about the second."""

    async def main():
        suspended, following = await take_over()
        await following.write_results(finished=False)
        await suspended.record(LATE["not accepted"])
        await suspended.record(SENT)
        last = make_state("run-3")
        await last.restore()
        return last.row_store.find("a").status

    assert asyncio.run(main()) is LineStatus.UNKNOWN


def test_record_waits_for_submit_outcome_but_not_for_stored_row(make_state):
    """If a kill loses the row of a stored line, its task is queried and its audio stored again, which is free."""

    async def main():
        state = make_state()
        await state.restore()
        await state.record(row("a", LineStatus.SUBMITTING))
        await state.record(row("a"))
        await state.record(row("a", LineStatus.STORED))
        after_a_kill = make_state()
        await after_a_kill.read_earlier_state()
        assert after_a_kill.row_store.find("a").status is LineStatus.PROCESSING
        await state.flush()
        resumed = make_state()
        await resumed.restore()
        return resumed.row_store.find("a").status

    assert asyncio.run(main()) is LineStatus.STORED


def test_results_are_saved_before_the_log_is_removed(make_state, tmp_path):
    journal = tmp_path / "clips" / ".mps-batch" / "journal"

    async def main():
        state = make_state()
        await state.restore()
        await state.record(row("a"))
        await state.save_results(finished=True)
        assert list(journal.glob("*.jsonl"))
        await state.remove_log(check_lease=False)
        assert not list(journal.glob("*.jsonl"))

    asyncio.run(main())


def test_save_waits_for_a_cancelled_one(make_state, monkeypatch):
    """The thread of a cancelled save continues, and would overwrite the results of a later one."""
    write_summary, proceed, order = Results.write_summary, threading.Event(), []

    def write(self, summary):
        order.append("begin")
        proceed.wait(30)
        write_summary(self, summary)
        order.append("end")

    async def main():
        monkeypatch.setattr(Results, "write_summary", write)
        state = make_state()
        restoring = asyncio.create_task(state.restore())
        while not order:
            await asyncio.sleep(0.01)
        restoring.cancel()
        await asyncio.wait([restoring])
        assert restoring.cancelled()
        saving = asyncio.create_task(state.save_results(finished=False))
        await asyncio.sleep(0.1)
        proceed.set()
        await saving

    asyncio.run(main())
    assert order == ["begin", "end"] * 2


def test_removal_that_hangs_is_abandoned(make_state, monkeypatch, caplog):
    proceed = threading.Event()

    async def main():
        state = make_state()
        await state.restore()
        await state.record(row("a"))
        monkeypatch.setattr(state_module, "REMOVAL_TIMEOUT_SECONDS", 0.05)
        monkeypatch.setattr(WriteAheadLog, "_remove_parts", lambda *_: proceed.wait(30))
        await state.write_results(finished=False)
        assert not proceed.is_set()
        proceed.set()

    asyncio.run(main())
    assert "Removing the write-ahead log took longer than 0.05 s" in caplog.text


@pytest.mark.parametrize("finished", [True, False])
def test_missing_rows_of_an_unfinished_batch_must_be_restored(make_state, tmp_path, finished):
    complete_run(make_state(), row("a"), finished=finished)
    (tmp_path / "clips" / "results.jsonl").write_text("")
    with pytest.raises(DestinationError, match="so nothing was submitted") as caught:
        asyncio.run(make_state().restore())
    assert ("journal; to submit all lines again, remove all three" in str(caught.value)) is finished
