import asyncio
import errno
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch.books import Books
from airflow_provider_mps.batch.journal import Journal
from airflow_provider_mps.batch.lease import Holder
from airflow_provider_mps.batch.results import Results
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.errors import DestinationError

LOG = logging.getLogger("batch")


@pytest.fixture
def open_books(tmp_path):
    """The books of a run on one and the same destination."""
    stopped = []

    def make(run="run-1", max_tries=0, try_number=1, **options):
        destination = ObjectStoragePath(f"file://{tmp_path}/clips")
        asked = SimpleNamespace(manifest="m.jsonl", destination=destination, **{"resume": True, **options})
        holder = Holder("dag", run, "task", try_number=try_number, max_tries=max_tries)
        books = Books(asked, holder, stopped.append, LOG)
        books.stopped = stopped
        return books

    return make


def left_behind(books, *rows, finished=True):
    """Let a run write down rows, and end."""

    async def work():
        await books.recall()
        for one in rows:
            await books.record(one)
        await books.close(finished=finished)
        books.ledger.close()

    asyncio.run(work())


def row(name="a", status=LineStatus.PROCESSING):
    return Row(name, 1, status, task_id=f"task-{name}")


def test_what_was_recorded_is_known_to_the_next_try_whether_or_not_the_results_were_written(open_books):
    async def first():
        books = open_books()
        await books.recall()
        await books.record(row("a"))
        await books.write_results(finished=False)
        await books.record(row("b"))
        await books.settle()
        books.ledger.close()

    async def second():
        books = open_books()
        await books.recall()
        known = [books.ledger.find(name).task_id for name in ("a", "b")]
        books.ledger.close()
        return known

    asyncio.run(first())
    assert asyncio.run(second()) == ["task-a", "task-b"]


@pytest.mark.parametrize(("run", "knows"), [("run-1", True), ("run-2", False)])
def test_without_resume_another_run_begins_anew_and_a_retry_of_the_same_does_not(open_books, run, knows):
    async def second():
        books = open_books(run, resume=False)
        await books.recall()
        known = books.ledger.find("a")
        books.ledger.close()
        return known is not None

    left_behind(open_books(), row("a"), finished=False)
    assert asyncio.run(second()) is knows


def test_what_could_not_be_recalled_is_not_overwritten_at_the_end(open_books, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "results.jsonl").write_text("spoilt\n")

    async def attempt():
        books = open_books()
        with pytest.raises(DestinationError, match="no result manifest of this version"):
            await books.recall()
        await books.close(finished=False)
        books.ledger.close()

    asyncio.run(attempt())
    assert (tmp_path / "clips" / "results.jsonl").read_text() == "spoilt\n"


def test_on_a_full_disk_what_was_paid_is_written_down_and_nothing_more_is_submitted(open_books, monkeypatch):
    write, full = Journal._write_part, [True]

    def once_full(self, rows):
        if full.pop() if full else False:
            raise DestinationError("full") from OSError(errno.ENOSPC, "No space left on device")
        return write(self, rows)

    async def attempt():
        books = open_books()
        await books.recall()
        monkeypatch.setattr(Journal, "_write_part", once_full)
        await books.record(row("a"))
        books.ledger.close()
        return books.stopped

    (reason,) = asyncio.run(attempt())
    assert "is full: nothing more was submitted" in str(reason)


def test_where_the_workers_temporary_folder_is_full_what_was_paid_is_in_the_journal(open_books):
    async def full():
        books = open_books()
        await books.recall()
        books.ledger._rows.execute("PRAGMA max_page_count = 1")
        said = "the worker's temporary folder .database or disk is full.: nothing more is submitted"

        async def record_many():
            for number in range(100):
                recorded.append(f"clip-{number}")
                await books.record(row(recorded[-1]))

        with pytest.raises(AirflowException, match=said):
            await record_many()
        await books.close(finished=False)
        books.ledger.close()

    async def afterwards():
        books = open_books()
        await books.recall()
        known = [books.ledger.find(name) for name in recorded]
        books.ledger.close()
        return known

    recorded = []
    asyncio.run(full())
    assert [known.task_id for known in asyncio.run(afterwards())] == [f"task-{name}" for name in recorded]


@pytest.mark.parametrize(("run", "max_tries", "again"), [("run-1", 0, False), ("run-1", 1, True), ("run-2", 0, True)])
def test_what_failed_is_tried_again_by_a_clear_and_by_another_run_and_not_by_a_retry(open_books, run, max_tries, again):
    async def second():
        books = open_books(run, max_tries)
        await books.recall()
        status = books.ledger.find("a").status
        books.ledger.close()
        return status

    left_behind(open_books(), row("a", LineStatus.FAILED))
    assert asyncio.run(second()) is (LineStatus.PENDING if again else LineStatus.FAILED)


@pytest.mark.parametrize(("ended", "try_number", "again"), [(1, 2, True), (1, 1, False), (None, 2, False)])
def test_clear_after_lowered_retries_submits_what_failed(open_books, tmp_path, ended, try_number, again):
    """Airflow's max_tries is then what it was; but only a clear can follow an attempt that has ended for good."""

    async def second():
        books = open_books(try_number=try_number)
        await books.recall()
        status = books.ledger.find("a").status
        books.ledger.close()
        return status

    left_behind(open_books(), row("a", LineStatus.FAILED))
    if ended:
        results = Results(ObjectStoragePath(f"file://{tmp_path}/clips"))
        results.mark_ended(results.read_summary()["run"], ended)
    assert asyncio.run(second()) is (LineStatus.PENDING if again else LineStatus.FAILED)


def test_a_result_manifest_that_was_emptied_is_not_taken_for_a_new_destination(open_books, tmp_path):
    async def second():
        books = open_books("run-2")
        with pytest.raises(DestinationError, match="has 0 lines of at least 1"):
            await books.recall()
        books.ledger.close()

    left_behind(open_books(), row("a", LineStatus.STORED))
    (tmp_path / "clips" / "results.jsonl").write_bytes(b"")
    asyncio.run(second())


def test_lines_that_were_accepted_and_are_in_no_manifest_any_more_are_counted(open_books):
    async def both():
        books = open_books()
        await books.recall()
        await books.record(row("a"))
        await books.record(row("b", LineStatus.STORED))
        assert books.ledger.left_over() == 0
        books.ledger.forget_lines()
        assert books.ledger.left_over() == 1
        books.ledger.close()

    asyncio.run(both())


class Taken(AirflowException):
    """What a lease raises that was lost."""


def content_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "ballast"}


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_batch_that_has_lost_its_lease_overwrites_and_removes_nothing(open_books, tmp_path, monkeypatch, looks):
    """Whichever change comes next: the results, the summary, or the removal of what they have."""

    async def held():
        if not left:
            raise Taken("taken")
        left.pop()

    async def attempt():
        books = open_books()
        books._held = held
        left.extend(range(100))
        await books.recall()
        await books.record(row("a"))
        left[:] = range(looks)
        before = content_of(tmp_path)
        with pytest.raises(Taken):
            await books.close(finished=True)
        books.ledger.close()
        return before

    left = []
    before = asyncio.run(attempt())
    after = content_of(tmp_path)
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == set(["results.jsonl", "summary.json"][:looks])


def test_lease_in_doubt_for_too_long_leaves_the_results_as_they_are(open_books, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_mps.batch.books.LEASE_TIMEOUT_SECONDS", 0.1)

    async def attempt():
        books = open_books()
        await books.recall()
        books._held = lambda: asyncio.sleep(60)
        before = content_of(tmp_path)
        with pytest.raises(AirflowException, match=r"could not be made sure .* so its results were not written"):
            await books.write_results(finished=False)
        books.ledger.close()
        return before

    assert asyncio.run(attempt()) == content_of(tmp_path)


SENT = Row("a", 1, LineStatus.SUBMITTING, request="print", sent_at="2026-01-01T00:00:00+00:00")
UNKNOWN = SENT.now(LineStatus.UNKNOWN)
LATE = {
    "accepted": SENT.now(LineStatus.PROCESSING, task_id="task-1"),
    "not accepted": SENT.now(LineStatus.PENDING),
    "rejected": SENT.now(LineStatus.REFUSED, error="no such voice"),
}


@pytest.fixture
def take_over(open_books):
    """Let a batch be suspended when it has sent a line, and another one take over, for which the line is unknown."""

    async def take_over():
        suspended, following = open_books(), open_books("run-2")
        await suspended.recall()
        await suspended.record(SENT)
        await following.recall()
        assert following.ledger.find("a").status is LineStatus.SUBMITTING
        following.ledger.put(replace(following.ledger.find("a"), line=1))
        await following.record(UNKNOWN)
        return suspended, following

    return take_over


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("comes", ["while the other works", "when it has ended"])
def test_outcome_that_a_suspended_batch_writes_down_late_is_known(open_books, take_over, late, comes):
    async def main():
        suspended, following = await take_over()
        if comes == "while the other works":
            await suspended.record(late)
            accepted = await following.adopt_late()
            assert accepted == ([late] if late.status is LineStatus.PROCESSING else [])
            await following.close(finished=False)
            known = following.ledger.find("a")
            assert known.line == 1
        else:
            await following.close(finished=False)
            await suspended.record(late)
            last = open_books("run-3")
            await last.recall()
            known = last.ledger.find("a")
            last.ledger.close()
        suspended.ledger.close()
        following.ledger.close()
        assert (known.status, known.task_id, known.error) == (late.status, late.task_id, late.error)

    asyncio.run(main())


@pytest.mark.parametrize("what", ["another submit of the same text", "another text"])
def test_late_outcome_of_another_submit_does_not_replace_a_newer_one(open_books, take_over, caplog, what):
    async def main():
        suspended, following = await take_over()
        changed = (
            {"sent_at": "2026-01-01T00:01:00+00:00"} if what.startswith("another submit") else {"request": "other"}
        )
        stored = replace(SENT, status=LineStatus.STORED, task_id="task-2", **changed)
        await following.record(stored)
        await following.close(finished=True)
        await suspended.record(LATE["accepted"])
        last = open_books("run-3")
        await last.recall()
        assert last.ledger.find("a") == replace(stored, line=None)
        for books in (suspended, following, last):
            books.ledger.close()

    asyncio.run(main())
    assert "was also accepted as task task-1" in caplog.text


def test_line_of_which_only_a_late_row_tells_is_known(open_books):
    async def main():
        suspended, following = open_books(), open_books("run-2")
        await suspended.recall()
        await following.recall()
        await following.close(finished=False)
        await suspended.record(SENT)
        await suspended.record(LATE["accepted"])
        last = open_books("run-3")
        await last.recall()
        known = last.ledger.find("a")
        for books in (suspended, following, last):
            books.ledger.close()
        return known

    assert asyncio.run(main()) == replace(LATE["accepted"], line=None)
