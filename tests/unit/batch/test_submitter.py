import asyncio
import logging
import random
import re
import threading
import time
from collections import Counter
from itertools import accumulate

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch import submitter
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.submitter import NotSubmittedError, Submitter
from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.polling import intervals, request_gate
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.polling.request_gate import RequestGate
from airflow_provider_mps.speech.parsing import OnUnknown
from airflow_provider_mps.speech.request import SpeechRequest
from tests.answers import ACCEPTED, GATEWAY
from tests.faulty_emulator import FaultyEmulator
from tests.scripted_server import RESET, Reply, ScriptedServer, make_api_error
from tests.waiting import most_in_a_second

HELLO = SpeechRequest("hello", "voice-1")
NO_SUCH_TASK = make_api_error("ResourceNotFound")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(request_gate, "_BACKOFF", PollInterval(0.05))
    monkeypatch.setattr(random, "random", lambda: 0.0)


class Batch:
    """A submitter, and the rows that it has recorded."""

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

    def record_in_memory(self, row):
        self.written.append(row)

    def statuses(self, name="a"):
        return [str(row.status) for row in self.written if row.id == name]

    async def wait_until_written(self, name):
        while not self.statuses(name):
            await asyncio.sleep(0.01)

    async def submit(self, name="a", request=HELLO):
        return await self.submitter.submit(request, Row(name, 1, LineStatus.PENDING))


def run(main, **options):
    """Run a test's coroutine with a batch, and close it afterwards."""

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
    """Start a server with a script of replies to submits, and another for probes during an outage."""
    with ScriptedServer(ACCEPTED) as server:

        def start(*script, probes=(NO_SUCH_TASK,), rate=50):
            script, probes = list(script), list(probes)

            def respond(request):
                steps = script if request.headers["x-tc-action"] == "TextToSpeechAsync" else probes
                return steps.pop(0) if len(steps) > 1 else steps[0]

            server.script = [respond]
            connect(server.connection_uri(f"timeout=20&requests_per_second={rate}"))
            return server

        yield start


def submits(server):
    return sum(request.headers["x-tc-action"] == "TextToSpeechAsync" for request in server.requests)


def test_submit_records_line_before_and_after_request(serve):
    server = serve(ACCEPTED)

    async def main(batch):
        row = await batch.submit()
        assert (row.status, row.task_id) == (LineStatus.PROCESSING, "task-1")
        assert batch.statuses() == ["submitting", "processing"]
        assert batch.written[0].sent_at

    run(main)
    assert submits(server) == 1


def test_submit_waits_for_the_lease_before_sending(serve):
    server = serve(ACCEPTED)

    async def main(batch):
        batch.allowed.clear()
        submitting = asyncio.create_task(batch.submit())
        await batch.requested.wait()
        assert (batch.statuses(), server.requests) == (["submitting"], [])
        batch.allowed.set()
        await submitting

    run(main)


@pytest.mark.parametrize("fault", [RESET, GATEWAY, make_api_error("InternalError"), Reply(b"<html>")])
def test_submit_unknown_outcome_is_not_repeated(serve, fault):
    server = serve(fault, ACCEPTED)

    async def main(batch):
        row = await batch.submit()
        assert row.status is LineStatus.UNKNOWN
        assert "unknown whether MPS accepted this line, sent at 20" in row.error
        assert "Find out whether MPS has a task for it (task log, MPS console, Tencent's support)" in row.error
        assert "set status to processing and TaskId to its id in this row of results.jsonl" in row.error
        assert row.error.endswith("if not, set status to pending; then clear the task.")
        assert len(re.findall(r"\.(?: |$)", row.error)) <= 3
        assert batch.statuses() == ["submitting", "unknown"]

    run(main)
    assert submits(server) == 1


def test_submit_on_unknown_resubmit_is_limited(serve):
    server = serve(RESET)

    async def main(batch):
        row = await batch.submit()
        assert row.status is LineStatus.UNKNOWN
        assert f"this line, sent {submitter.MAX_SUBMITS} times, last at 20" in row.error

    run(main, on_unknown=OnUnknown.RESUBMIT)
    assert submits(server) == submitter.MAX_SUBMITS
    serve(RESET, ACCEPTED)

    async def again(batch):
        assert (await batch.submit()).status is LineStatus.PROCESSING

    run(again, on_unknown=OnUnknown.RESUBMIT)


@pytest.mark.parametrize("fault", [RESET, make_api_error("")], ids=["reset", "empty code"])
def test_submit_outage_sends_only_probes(serve, fault):
    server = serve(fault, ACCEPTED, probes=[RESET, GATEWAY, make_api_error("InternalError"), NO_SUCH_TASK])

    async def main(batch):
        assert (await batch.submit("first")).status is LineStatus.UNKNOWN
        rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(5)))
        assert {row.status for row in rows} == {LineStatus.PROCESSING}

    run(main)
    actions = [request.headers["x-tc-action"] for request in server.requests]
    assert actions[:5] == ["TextToSpeechAsync"] + 4 * ["DescribeTextToSpeechAsyncTask"]


def test_submit_outage_during_recording_waits(serve):
    server = serve(ACCEPTED)
    others_recorded = threading.Event()
    replies = {
        "TextToSpeechAsync": iter([lambda: others_recorded.wait(30) and RESET, *[lambda: ACCEPTED] * 5]),
        "DescribeTextToSpeechAsyncTask": iter([lambda: GATEWAY, lambda: NO_SUCH_TASK]),
    }
    server.script = [lambda request: next(replies[request.headers["x-tc-action"]])()]

    async def main(batch):
        first = asyncio.create_task(batch.submit("first"))
        while not server.requests:
            await asyncio.sleep(0.01)
        batch.allowed.clear()
        others = [asyncio.create_task(batch.submit(f"{number}")) for number in range(5)]
        for number in range(5):
            await batch.wait_until_written(f"{number}")
        others_recorded.set()
        assert (await first).status is LineStatus.UNKNOWN
        batch.allowed.set()
        assert {(await line).status for line in others} == {LineStatus.PROCESSING}
        assert all(
            batch.statuses(f"{number}") == ["submitting", "pending", "submitting", "processing"] for number in range(5)
        )

    run(main)
    actions = [request.headers["x-tc-action"] for request in server.requests]
    assert actions == ["TextToSpeechAsync"] + 2 * ["DescribeTextToSpeechAsyncTask"] + 5 * ["TextToSpeechAsync"]


def test_submit_throttled_is_pending_and_repeated(serve):
    serve(make_api_error("RequestLimitExceeded"), ACCEPTED)

    async def main(batch):
        assert (await batch.submit()).status is LineStatus.PROCESSING
        assert batch.statuses() == ["submitting", "pending", "submitting", "processing"]
        assert batch.submitter.throttled == 1

    run(main)


def test_submit_rejected_line_does_not_stop_others(serve):
    serve(make_api_error("InvalidParameterValue", "no such voice"), ACCEPTED)

    async def main(batch):
        row = await batch.submit("a")
        assert row.status is LineStatus.REJECTED
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
def test_submit_account_error_stops_batch_lines_stay_pending(serve, code):
    server = serve(make_api_error(code))

    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit("a")
        with pytest.raises(NotSubmittedError):
            await batch.submit("b")
        assert batch.statuses("a") == ["submitting", "pending"]
        assert batch.statuses("b") == []
        assert isinstance(batch.submitter.stop_reason, MpsPermanentError)

    run(main)
    assert submits(server) == 1


def test_submit_invalid_connection_stops_batch(monkeypatch):
    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert isinstance(batch.submitter.stop_reason, InvalidMpsConnectionError)
        assert batch.written == []

    run(main)


def test_submit_expired_token_is_refreshed(serve):
    serve(make_api_error("AuthFailure.TokenFailure"), ACCEPTED)

    async def main(batch):
        assert (await batch.submit()).status is LineStatus.PROCESSING

    run(main)


@pytest.mark.parametrize("code", ["AuthFailure.TokenFailure", "AuthFailure.SecretIdNotFound"])
def test_submit_wrong_credentials_stop_batch_lines_stay_pending(serve, code):
    server = serve(make_api_error(code))

    async def main(batch):
        rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(5)), return_exceptions=True)
        assert {type(row) for row in rows} == {NotSubmittedError}
        assert {status for number in range(5) for status in batch.statuses(f"{number}")[-1:]} <= {"pending"}
        assert isinstance(batch.submitter.stop_reason, MpsPermanentError)
        assert batch.submitter.stop_reason.code == code

    run(main)
    # Before the first response several may be in flight; the refreshed credentials are probed with one.
    assert submits(server) <= 5 + 1


def test_submit_key_invalid_before_edit_does_not_stop_batch(connect, monkeypatch):
    monkeypatch.setattr(request_gate, "_BACKOFF", PollInterval(0.02))
    monkeypatch.setattr(intervals, "FIRST_USE_GRACE_SECONDS", 30.0)
    in_flight, most_probes, lock = 0, 0, threading.Lock()

    def respond(request):
        nonlocal in_flight, most_probes
        if "new-id" in request.headers["authorization"]:
            return ACCEPTED
        with lock:
            in_flight += 1
            if submits(server) > 12:  # by now all first submits were rejected
                most_probes = max(most_probes, in_flight)
        if submits(server) == 20:
            connect(server.connection_uri("requests_per_second=200").replace("some-id", "new-id"))
        with lock:
            in_flight -= 1
        return make_api_error("AuthFailure.SecretIdNotFound")

    with ScriptedServer(respond) as server:
        connect(server.connection_uri("requests_per_second=200"))

        async def main(batch):
            rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(12)))
            assert {row.status for row in rows} == {LineStatus.PROCESSING}

        run(main)
    assert most_probes == 1


def test_stop_ends_lines_waiting_for_credentials(serve, monkeypatch):
    monkeypatch.setattr(request_gate, "_BACKOFF", PollInterval(3600))
    monkeypatch.setattr(intervals, "FIRST_USE_GRACE_SECONDS", 3600.0)
    server = serve(make_api_error("AuthFailure.SecretIdNotFound"))

    async def main(batch):
        lines = [asyncio.create_task(batch.submit(f"{number}")) for number in range(5)]
        while submits(server) < 2:
            await asyncio.sleep(0.01)
        batch.submitter.stop(AirflowException("stopped"))
        ended = await asyncio.wait_for(asyncio.gather(*lines, return_exceptions=True), 30)
        assert {type(error) for error in ended} == {NotSubmittedError}

    run(main)


def test_submit_token_replaced_in_flight_does_not_stop_batch(connect):
    replaced = threading.Event()

    def respond(request):
        if request.headers.get("x-tc-token") == "new":
            return ACCEPTED
        if submits(server) == 8:  # these are rejected with the old token
            connect(server.connection_uri("requests_per_second=50&timeout=60&token=new"))
            replaced.set()
        assert replaced.wait(30)
        return make_api_error("AuthFailure.TokenFailure")

    with ScriptedServer(respond) as server:
        connect(server.connection_uri("requests_per_second=50&timeout=60&token=old"))

        async def main(batch):
            rows = await asyncio.gather(*(batch.submit(f"{number}") for number in range(12)))
            assert {row.status for row in rows} == {LineStatus.PROCESSING}

        run(main)


def test_submit_refresh_failure_leaves_line_pending(serve, monkeypatch):
    serve(make_api_error("AuthFailure.TokenFailure"))

    async def fail(*_):
        raise AirflowException("the secrets backend is away")

    monkeypatch.setattr(MpsHook, "arefresh_credentials", fail)

    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]
        assert "the secrets backend is away" in str(batch.submitter.stop_reason)

    run(main)


def test_stop_during_recording_sends_nothing(serve):
    server = serve(ACCEPTED)

    async def main(batch):
        batch.allowed.clear()
        submitting = asyncio.create_task(batch.submit())
        await batch.wait_until_written("a")
        batch.submitter.stop(AirflowException("stopped"))
        batch.allowed.set()
        with pytest.raises(NotSubmittedError):
            await submitting
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert server.requests == []


def test_submit_long_outage_stops_batch(connect, monkeypatch):
    monkeypatch.setattr(request_gate, "OUTAGE_TIMEOUT_SECONDS", 0.2)
    connect("tencent-mps://id:key@127.0.0.1:1/http?timeout=1")

    async def main(batch):
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]
        assert "out of reach" in str(batch.submitter.stop_reason)

    run(main)


def test_settle_cancelled_line_in_flight_is_recorded(serve):
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


def test_submit_many_lines_uses_and_never_exceeds_quota(start_emulator, connect, sent, monkeypatch):
    paced, record_sending = [], RequestGate.record_sending

    def record(gate, permit):
        paced.append(time.monotonic())
        record_sending(gate, permit)

    monkeypatch.setattr(RequestGate, "record_sending", record)
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
    # By the moments that the rate limiter sees: on a loaded machine, a request can leave a little later.
    assert paced[-1] - paced[0] >= 149 / 36


def test_submit_slow_records_do_not_lower_the_rate(start_emulator, connect, sent):
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


def test_submit_limits_requests_in_flight(serve):
    serve(Reply(ACCEPTED.body, drip=0.005), rate=1000)

    async def main(batch):
        await asyncio.gather(*(batch.submit(f"{number}") for number in range(60)))
        changes = {LineStatus.SUBMITTING: 1, LineStatus.PROCESSING: -1}
        return max(accumulate(changes[row.status] for row in batch.written))

    assert 2 <= run(main) <= submitter.IN_FLIGHT


@pytest.mark.parametrize("ended_by", ["a cancel", "a log that fails"])
def test_submit_ended_before_sending_leaves_line_pending(start_emulator, connect, ended_by):
    app = FaultyEmulator(Options(voice="tone"))
    connect(start_emulator(app).connection_uri)

    async def main(batch):
        if ended_by == "a cancel":
            batch.allowed.clear()
            submitting = asyncio.create_task(batch.submit())
            await batch.wait_until_written("a")
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


class LeaseLost(AirflowException):
    """Raised by a lost lease."""


@pytest.fixture
def hold_last_check(monkeypatch):
    """Script what the lease check does: first when the line is recorded, then when its request is sent."""

    def hold(batch, *outcomes):
        checks, outcomes = [], list(outcomes)

        async def may_submit():
            checks.append(batch.statuses())
            outcome = outcomes.pop(0) if outcomes else None
            if outcome is not None:
                await outcome()

        batch.submitter._ensure_lease = may_submit
        return checks

    return hold


async def confirm():
    """Confirm the lease."""


@pytest.mark.parametrize("last", ["lost", "in doubt"])
def test_submit_lease_in_doubt_at_last_check_is_not_sent(serve, hold_last_check, monkeypatch, last):
    monkeypatch.setattr(submitter, "LAST_CHECK_SECONDS", 0.05)
    server = serve(ACCEPTED)

    async def lost():
        raise LeaseLost("taken")

    async def doubt():
        await asyncio.sleep(60)

    async def main(batch):
        checks = hold_last_check(batch, confirm, lost if last == "lost" else doubt)
        row = await batch.submit()
        assert row.status is LineStatus.PROCESSING
        # Twice for each attempt: when the line is written down, and when its connection is established.
        assert [len(statuses) for statuses in checks] == [1, 1, 3, 3]
        assert batch.statuses() == ["submitting", "pending", "submitting", "processing"]

    run(main)
    assert submits(server) == 1


def test_stop_while_connecting_sends_nothing(serve, hold_last_check):
    server = serve(ACCEPTED)

    async def main(batch):
        async def stop():
            batch.submitter.stop(AirflowException("stopped"))

        hold_last_check(batch, stop)
        with pytest.raises(NotSubmittedError):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert server.requests == []


def test_submit_lease_lost_before_sending_leaves_line_pending(serve, hold_last_check):
    server = serve(ACCEPTED)

    async def lost():
        raise LeaseLost("taken")

    async def main(batch):
        hold_last_check(batch, lost)
        with pytest.raises(LeaseLost):
            await batch.submit()
        assert batch.statuses() == ["submitting", "pending"]

    run(main)
    assert server.requests == []


def test_settle_waits_for_responses_only(serve):
    released = threading.Event()
    server = serve(ACCEPTED, rate=1)
    server.script = [lambda _: released.wait(30) and ACCEPTED]

    async def main(batch):
        sent = asyncio.create_task(batch.submit("sent"))
        while not server.requests:
            await asyncio.sleep(0.01)
        # Their slots are one second apart.
        later = [asyncio.create_task(batch.submit(f"{number}")) for number in range(20)]
        await asyncio.sleep(0.05)
        batch.submitter.stop(NotSubmittedError())
        settling = asyncio.create_task(batch.submitter.settle(60))
        done, _ = await asyncio.wait(later, timeout=10)
        assert len(done) == 20
        assert not settling.done()
        released.set()
        await asyncio.wait_for(settling, 10)
        assert (await sent).status is LineStatus.PROCESSING
        assert {str(row.status) for row in batch.written} <= {"submitting", "pending", "processing"}
        assert [row.id for row in batch.written if row.status is LineStatus.PROCESSING] == ["sent"]
        assert all(isinstance(line.exception(), NotSubmittedError) for line in later)

    run(main)
    assert submits(server) == 1


def test_settle_does_not_wait_for_credentials(serve, monkeypatch):
    serve(make_api_error("AuthFailure.TokenFailure"))
    refreshing = asyncio.Event()

    async def hang(*_):
        refreshing.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(MpsHook, "arefresh_credentials", hang)

    async def main(batch):
        submitting = asyncio.create_task(batch.submit())
        await asyncio.wait_for(refreshing.wait(), 10)
        assert batch.statuses() == ["submitting", "pending"]
        batch.submitter.stop(NotSubmittedError())
        await asyncio.wait_for(batch.submitter.settle(60), 10)
        assert submitting.done()
        assert batch.statuses() == ["submitting", "pending"]

    run(main)


def test_stop_during_throttle_backoff_leaves_line_pending(serve):
    server = serve(make_api_error("RequestLimitExceeded"), rate=5)

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
