import asyncio
import logging
import threading
import time
from collections import Counter
from itertools import accumulate

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps import credential_gate
from airflow_provider_mps.batch import submitter as module
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.submitter import NotSubmittedError, Submitter
from airflow_provider_mps.choice import OnUnknown
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.errors import InvalidMpsConnectionError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.speech_request import SpeechRequest
from tests.answers import ACCEPTED, GATEWAY
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import RESET, Reply, ScriptedServer, api_error
from tests.waiting import most_in_a_second

HELLO = SpeechRequest("hello", "voice-1")
NO_SUCH_TASK = api_error("ResourceNotFound")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_BETWEEN_TRIES", PollInterval(0.05))
    monkeypatch.setattr(credential_gate, "_BACKOFF", PollInterval(0.05))
    monkeypatch.setattr(module.random, "random", lambda: 0.0)


class Batch:
    """A submitter, and what it has written down."""

    def __init__(self, on_unknown=OnUnknown.FAIL):
        self.written: list[Row] = []
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.requested = asyncio.Event()
        self.hook = MpsHook()
        self.submitter = Submitter(self.hook, self, self.may_submit, on_unknown, logging.getLogger("batch"))

    async def may_submit(self):
        self.requested.set()
        await self.allowed.wait()

    async def record(self, row):
        self.written.append(row)

    def note(self, row):
        self.written.append(row)

    def statuses(self, name="a"):
        return [str(row.status) for row in self.written if row.id == name]

    async def has_written(self, name):
        while not self.statuses(name):
            await asyncio.sleep(0.01)

    async def submit(self, name="a", request=HELLO):
        return await self.submitter.submit(request, Row(name, 1, LineStatus.PENDING))


def run(main, **options):
    """Run a test's coroutine with a batch, and close what it has opened."""

    async def closing():
        batch = Batch(**options)
        try:
            return await main(batch)
        finally:
            await batch.submitter.settle(1)
            await batch.hook.aclose()

    return asyncio.run(closing())


@pytest.fixture
def serve(connect):
    """A server of so many submits a second with a script; what is asked to see whether MPS answers is not in it."""
    with ScriptedServer(ACCEPTED) as server:

        def start(*script, asked=(NO_SUCH_TASK,), rate=50):
            script, asked = list(script), list(asked)

            def answer(request):
                steps = script if request.headers["x-tc-action"] == "TextToSpeechAsync" else asked
                return steps.pop(0) if len(steps) > 1 else steps[0]

            server.script = [answer]
            connect(server.connection_uri(f"timeout=20&requests_per_second={rate}"))
            return server

        yield start


def submits(server):
    return sum(request.headers["x-tc-action"] == "TextToSpeechAsync" for request in server.requests)


def test_what_is_sent_is_written_down_before_and_after(serve):
    server = serve(ACCEPTED)

    async def main(batch):
        row = await batch.submit()
        assert (row.status, row.task_id) == (LineStatus.PROCESSING, "task-1")
        assert batch.statuses() == ["submitting", "processing"]
        assert batch.written[0].sent_at

    run(main)
    assert submits(server) == 1


def test_nothing_is_sent_before_it_is_certain_that_nobody_else_is_at_work(serve):
    server = serve(ACCEPTED)

    async def main(batch):
        batch.allowed.clear()
        submitting = asyncio.create_task(batch.submit())
        await batch.requested.wait()
        assert (batch.statuses(), server.requests) == (["submitting"], [])
        batch.allowed.set()
        await submitting

    run(main)


@pytest.mark.parametrize("fault", [RESET, GATEWAY, api_error("InternalError"), Reply(b"<html>")])
def test_an_unknown_outcome_is_not_repeated(serve, fault):
    server = serve(fault, ACCEPTED)

    async def main(batch):
        row = await batch.submit()
        assert row.status is LineStatus.UNKNOWN
        assert "unknown whether MPS accepted this line, sent at 20" in row.error
        assert batch.statuses() == ["submitting", "unknown"]

    run(main)
    assert submits(server) == 1


def test_who_accepts_to_pay_twice_submits_again_and_not_for_ever(serve):
    server = serve(RESET)

    async def main(batch):
        assert (await batch.submit()).status is LineStatus.UNKNOWN

    run(main, on_unknown=OnUnknown.RESUBMIT)
    assert submits(server) == module.MAX_RESUBMITS
    serve(RESET, ACCEPTED)

    async def again(batch):
        assert (await batch.submit()).status is LineStatus.PROCESSING

    run(again, on_unknown=OnUnknown.RESUBMIT)


def test_while_mps_does_not_answer_no_other_line_is_risked(serve):
    server = serve(RESET, ACCEPTED, asked=[RESET, GATEWAY, api_error("InternalError"), NO_SUCH_TASK])

    async def main(batch):
        assert (await batch.submit("first")).status is LineStatus.UNKNOWN
        rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(5)))
        assert {row.status for row in rows} == {LineStatus.PROCESSING}

    run(main)
    actions = [request.headers["x-tc-action"] for request in server.requests]
    assert actions[:5] == ["TextToSpeechAsync"] + 4 * ["DescribeTextToSpeechAsyncTask"]


def test_a_line_that_is_being_written_down_when_mps_stops_to_answer_waits_too(serve):
    server = serve(ACCEPTED)
    asked = threading.Event()
    answers = {
        "TextToSpeechAsync": iter([lambda: asked.wait(30) and RESET, *[lambda: ACCEPTED] * 5]),
        "DescribeTextToSpeechAsyncTask": iter([lambda: GATEWAY, lambda: NO_SUCH_TASK]),
    }
    server.script = [lambda request: next(answers[request.headers["x-tc-action"]])()]

    async def main(batch):
        first = asyncio.create_task(batch.submit("first"))
        while not server.requests:
            await asyncio.sleep(0.01)
        batch.allowed.clear()
        others = [asyncio.create_task(batch.submit(f"{number}")) for number in range(5)]
        for number in range(5):
            await batch.has_written(f"{number}")
        asked.set()
        assert (await first).status is LineStatus.UNKNOWN
        batch.allowed.set()
        assert {(await line).status for line in others} == {LineStatus.PROCESSING}
        assert all(
            batch.statuses(f"{number}") == ["submitting", "pending", "submitting", "processing"] for number in range(5)
        )

    run(main)
    actions = [request.headers["x-tc-action"] for request in server.requests]
    assert actions == ["TextToSpeechAsync"] + 2 * ["DescribeTextToSpeechAsyncTask"] + 5 * ["TextToSpeechAsync"]


def test_what_was_provably_not_accepted_is_submitted_again_and_pending_meanwhile(serve):
    serve(api_error("RequestLimitExceeded"), ACCEPTED)

    async def main(batch):
        assert (await batch.submit()).status is LineStatus.PROCESSING
        assert batch.statuses() == ["submitting", "pending", "submitting", "processing"]
        assert batch.submitter.throttled == 1

    run(main)


def test_a_line_that_mps_refuses_does_not_stop_the_others(serve):
    serve(api_error("InvalidParameterValue", "no such voice"), ACCEPTED)

    async def main(batch):
        row = await batch.submit("a")
        assert row.status is LineStatus.REFUSED
        assert "no such voice" in row.error
        assert "req-1" in row.error
        assert (await batch.submit("b")).status is LineStatus.PROCESSING

    run(main)


@pytest.mark.parametrize(
    "code",
    [
        "AuthFailure.UnauthorizedOperation",
        "UnauthorizedOperation",
        "FailedOperation.UserArrears",
        "LimitExceeded.Total",
        "InvalidAction",
    ],
)
def test_what_no_line_of_this_account_would_get_past_stops_the_batch_and_leaves_lines_pending(serve, code):
    server = serve(api_error(code))

    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit("a")
        with pytest.raises(NotSubmittedError):
            await batch.submit("b")
        assert batch.statuses("a") == ["submitting", "pending"]
        assert batch.statuses("b") == []
        assert isinstance(batch.submitter.stopped, MpsPermanentError)

    run(main)
    assert submits(server) == 1


def test_a_connection_that_must_be_mended_stops_the_batch(monkeypatch):
    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert isinstance(batch.submitter.stopped, InvalidMpsConnectionError)
        assert batch.written == []

    run(main)


def test_an_expired_token_is_renewed_from_the_connection_and_not_for_ever(serve):
    serve(api_error("AuthFailure.TokenFailure"), ACCEPTED)

    async def main(batch):
        assert (await batch.submit()).status is LineStatus.PROCESSING

    run(main)


@pytest.mark.parametrize("code", ["AuthFailure.TokenFailure", "AuthFailure.SecretIdNotFound"])
def test_wrong_credentials_stop_the_batch_and_leave_lines_pending(serve, code):
    server = serve(api_error(code))

    async def main(batch):
        rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(5)), return_exceptions=True)
        assert {type(row) for row in rows} == {NotSubmittedError}
        assert {status for number in range(5) for status in batch.statuses(f"{number}")[-1:]} <= {"pending"}
        assert isinstance(batch.submitter.stopped, MpsPermanentError)
        assert batch.submitter.stopped.code == code

    run(main)
    # Before the first response several may be under way; the refreshed credentials are probed with one.
    assert submits(server) <= 5 + 1


def test_key_that_dies_before_its_connection_is_edited_stops_no_batch(connect, monkeypatch):
    monkeypatch.setattr(credential_gate, "_BACKOFF", PollInterval(0.02))
    monkeypatch.setattr(credential_gate, "FIRST_USE_GRACE_SECONDS", 30.0)
    under_way, most_probes, lock = 0, 0, threading.Lock()

    def answer(request):
        nonlocal under_way, most_probes
        if "new-id" in request.headers["authorization"]:
            return ACCEPTED
        with lock:
            under_way += 1
            if submits(server) > 12:  # by now all first submits were refused
                most_probes = max(most_probes, under_way)
        if submits(server) == 20:
            connect(server.connection_uri("requests_per_second=200").replace("some-id", "new-id"))
        with lock:
            under_way -= 1
        return api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(answer) as server:
        connect(server.connection_uri("requests_per_second=200"))

        async def main(batch):
            rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(12)))
            assert {row.status for row in rows} == {LineStatus.PROCESSING}

        run(main)
    assert most_probes == 1


def test_lines_that_wait_for_credentials_leave_when_the_batch_is_stopped(serve, monkeypatch):
    monkeypatch.setattr(credential_gate, "_BACKOFF", PollInterval(3600))
    monkeypatch.setattr(credential_gate, "FIRST_USE_GRACE_SECONDS", 3600.0)
    server = serve(api_error("AuthFailure.SecretIdNotFound"))

    async def main(batch):
        lines = [asyncio.create_task(batch.submit(f"{number}")) for number in range(5)]
        while submits(server) < 2:
            await asyncio.sleep(0.01)
        batch.submitter.stop(AirflowException("enough"))
        ended = await asyncio.wait_for(asyncio.gather(*lines, return_exceptions=True), 30)
        assert {type(error) for error in ended} == {NotSubmittedError}

    run(main)


def test_a_token_that_is_replaced_while_lines_are_under_way_stops_nobody(connect):
    replaced = threading.Event()

    def answer(request):
        if request.headers.get("x-tc-token") == "new":
            return ACCEPTED
        if submits(server) == 8:  # that many are refused with the token of before
            connect(server.connection_uri("requests_per_second=50&timeout=60&token=new"))
            replaced.set()
        assert replaced.wait(30)
        return api_error("AuthFailure.TokenFailure")

    with ScriptedServer(answer) as server:
        connect(server.connection_uri("requests_per_second=50&timeout=60&token=old"))

        async def main(batch):
            rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(12)))
            assert {row.status for row in rows} == {LineStatus.PROCESSING}

        run(main)


def test_a_line_that_was_refused_is_pending_where_the_renewal_fails(serve, monkeypatch):
    serve(api_error("AuthFailure.TokenFailure"))

    async def fail(*_):
        raise AirflowException("the secrets backend is away")

    monkeypatch.setattr(MpsHook, "arenew_credentials", fail)

    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]
        assert "the secrets backend is away" in str(batch.submitter.stopped)

    run(main)


def test_a_line_that_was_being_written_down_when_the_batch_was_stopped_is_not_sent(serve):
    server = serve(ACCEPTED)

    async def main(batch):
        batch.allowed.clear()
        submitting = asyncio.create_task(batch.submit())
        await batch.has_written("a")
        batch.submitter.stop(AirflowException("enough"))
        batch.allowed.set()
        with pytest.raises(NotSubmittedError):
            await submitting
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert server.requests == []


def test_an_mps_that_stays_away_stops_the_batch_and_leaves_it_to_a_retry(connect, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    connect("tencent-mps://id:key@127.0.0.1:1/http?timeout=1")

    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]
        assert "out of reach" in str(batch.submitter.stopped)

    run(main)


def test_what_has_been_sent_is_waited_for_although_its_line_is_not_wanted_any_more(serve):
    server = serve(Reply(ACCEPTED.body, drip=0.01))

    async def main(batch):
        submitting = asyncio.create_task(batch.submit())
        while not server.requests:
            await asyncio.sleep(0.01)
        submitting.cancel()
        batch.submitter.stop(NotSubmittedError())
        await batch.submitter.settle(30)
        assert batch.statuses() == ["submitting", "processing"]

    run(main)


def test_the_quota_is_used_and_never_exceeded(start_emulator, connect, sent):
    app = FaultyEmulator(Options(voice="tone", synthesis_time=60, rate_limit=80))
    emulator = start_emulator(app)
    connect(f"{emulator.connection_uri}&requests_per_second=36")

    async def main(batch):
        rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(150)))
        assert Counter(row.status for row in rows) == {LineStatus.PROCESSING: 150}
        assert batch.submitter.throttled == 0

    run(main)
    assert most_in_a_second(sent) <= 40
    assert app.refused == 0
    assert sent[-1] - sent[0] >= 149 / 36


def test_a_slow_writing_down_does_not_slow_the_submits_down(start_emulator, connect, sent):
    app = FaultyEmulator(Options(voice="tone", synthesis_time=60, rate_limit=80))
    emulator = start_emulator(app)
    connect(f"{emulator.connection_uri}&requests_per_second=36")

    async def main(batch):
        seconds = []

        async def slow(row):
            started = time.monotonic()
            await asyncio.sleep(0.1)
            batch.written.append(row)
            seconds.append(time.monotonic() - started)

        batch.record = slow
        await asyncio.gather(*(batch.submit(f"{number}") for number in range(150)))
        assert len(seconds) == 300
        return app.arrivals[-1] - app.arrivals[0], sum(seconds)

    sending, writing = run(main)
    assert writing >= 30
    assert sending < writing / 3
    assert most_in_a_second(sent) <= 40
    assert app.refused == 0


def test_no_more_than_a_few_are_without_an_answer(serve):
    serve(Reply(ACCEPTED.body, drip=0.005), rate=1000)

    async def main(batch):
        await asyncio.gather(*(batch.submit(f"{number}") for number in range(60)))
        changes = {LineStatus.SUBMITTING: 1, LineStatus.PROCESSING: -1}
        return max(accumulate(changes[row.status] for row in batch.written))

    assert 2 <= run(main) <= module.IN_FLIGHT


@pytest.mark.parametrize("ended_by", ["a cancel", "a journal that fails"])
def test_a_line_that_was_about_to_be_sent_and_was_not_is_pending(start_emulator, connect, ended_by):
    app = FaultyEmulator(Options(voice="tone"))
    connect(start_emulator(app).connection_uri)

    async def main(batch):
        if ended_by == "a cancel":
            batch.allowed.clear()
            submitting = asyncio.create_task(batch.submit())
            await batch.has_written("a")
            await batch.submitter.settle(0.0)
            with pytest.raises(asyncio.CancelledError):
                await submitting
        else:

            async def failing(row):
                batch.written.append(row)
                raise AirflowException("no space left")

            batch.record = failing
            with pytest.raises(AirflowException, match="no space left"):
                await batch.submit()
        return batch.statuses()

    assert run(main) == ["submitting", "pending"]
    assert app.arrivals == []


class Taken(AirflowException):
    """What a lease raises that was lost."""


@pytest.fixture
def hold_last_check(monkeypatch):
    """Let the lease be certain until the line is written down, and not any more when its request is to be sent."""

    def hold(batch, *outcomes):
        looks, outcomes = [], list(outcomes)

        async def may_submit():
            looks.append(batch.statuses())
            outcome = outcomes.pop(0) if outcomes else None
            if outcome is not None:
                await outcome()

        batch.submitter._may_submit = may_submit
        return looks

    return hold


async def certain():
    """Let the lease be certain."""


@pytest.mark.parametrize("last", ["lost", "in doubt"])
def test_request_whose_lease_is_not_certain_at_the_last_moment_is_not_sent(serve, hold_last_check, monkeypatch, last):
    monkeypatch.setattr(module, "LAST_CHECK_SECONDS", 0.05)
    server = serve(ACCEPTED)

    async def lost():
        raise Taken("taken")

    async def doubt():
        await asyncio.sleep(60)

    async def main(batch):
        looks = hold_last_check(batch, certain, lost if last == "lost" else doubt)
        row = await batch.submit()
        assert row.status is LineStatus.PROCESSING
        # Twice for each attempt: when the line is written down, and when its connection is established.
        assert [len(statuses) for statuses in looks] == [1, 1, 3, 3]
        assert batch.statuses() == ["submitting", "pending", "submitting", "processing"]

    run(main)
    assert submits(server) == 1


def test_batch_stopped_while_the_connection_is_made_sends_nothing(serve, hold_last_check):
    server = serve(ACCEPTED)

    async def main(batch):
        async def stop():
            batch.submitter.stop(AirflowException("enough"))

        hold_last_check(batch, stop)
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert server.requests == []


def test_lease_that_is_lost_before_sending_is_written_down(serve, hold_last_check):
    server = serve(ACCEPTED)

    async def lost():
        raise Taken("taken")

    async def main(batch):
        hold_last_check(batch, lost)
        with pytest.raises(Taken):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert server.requests == []


def test_settle_waits_for_responses_and_for_nothing_else(serve):
    answer = threading.Event()
    server = serve(ACCEPTED, rate=1)
    server.script = [lambda _: answer.wait(30) and ACCEPTED]

    async def main(batch):
        sent = asyncio.create_task(batch.submit("sent"))
        while not server.requests:
            await asyncio.sleep(0.01)
        # Their turns come at one second's distance each.
        later = [asyncio.create_task(batch.submit(f"{number}")) for number in range(20)]
        await asyncio.sleep(0.05)
        batch.submitter.stop(NotSubmittedError())
        settling = asyncio.create_task(batch.submitter.settle(60))
        done, _ = await asyncio.wait(later, timeout=10)
        assert len(done) == 20
        assert not settling.done()
        answer.set()
        await asyncio.wait_for(settling, 10)
        assert (await sent).status is LineStatus.PROCESSING
        assert {str(row.status) for row in batch.written} <= {"submitting", "pending", "processing"}
        assert [row.id for row in batch.written if row.status is LineStatus.PROCESSING] == ["sent"]
        assert all(isinstance(line.exception(), NotSubmittedError) for line in later)

    run(main)
    assert submits(server) == 1


def test_rejected_submit_that_waits_for_credentials_does_not_hold_up_the_end(serve, monkeypatch):
    serve(api_error("AuthFailure.TokenFailure"))
    renewing = asyncio.Event()

    async def hang(*_):
        renewing.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(MpsHook, "arenew_credentials", hang)

    async def main(batch):
        submitting = asyncio.create_task(batch.submit())
        await asyncio.wait_for(renewing.wait(), 10)
        assert batch.statuses() == ["submitting", "pending"]
        batch.submitter.stop(NotSubmittedError())
        await asyncio.wait_for(batch.submitter.settle(60), 10)
        assert submitting.done()
        assert batch.statuses() == ["submitting", "pending"]

    run(main)


def test_throttled_submit_that_is_killed_during_its_back_off_is_pending(serve):
    server = serve(api_error("RequestLimitExceeded"), rate=5)

    async def main(batch):
        submitting = asyncio.create_task(batch.submit())
        while batch.statuses() != ["submitting", "pending"]:
            await asyncio.sleep(0.01)
        batch.submitter.stop(NotSubmittedError())
        with pytest.raises(NotSubmittedError):
            await submitting
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert submits(server) == 1
