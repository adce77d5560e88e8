"""The request gate refreshes and probes rejected credentials. In simulated time."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.error_codes import NOT_SENT
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsPermanentError, make_api_error
from airflow_provider_mps.metrics import Metrics
from airflow_provider_mps.polling import intervals
from airflow_provider_mps.polling.intervals import ROTATION_GRACE_SECONDS, CredentialGracePeriod
from airflow_provider_mps.polling.rate_limiter import THROTTLE_FACTOR
from airflow_provider_mps.polling.request_gate import OUTAGE_TIMEOUT_SECONDS, RequestGate
from tests.simulated_time import run_in_simulated_time

REJECTED = make_api_error("AuthFailure.SecretIdNotFound", "rejected")
FIRST_USE_GRACE_SECONDS = 30.0
CONNECTION = SimpleNamespace(region="ap-singapore", requests_per_second=18)


@pytest.fixture(autouse=True)
def grace(monkeypatch):
    monkeypatch.setattr(intervals, "FIRST_USE_GRACE_SECONDS", FIRST_USE_GRACE_SECONDS)


class Credential:
    async def refresh(self):
        pass


class Hook:
    """A hook whose connection's key MPS accepts from a certain time on."""

    mps_conn_id = "mps_default"
    metrics = Metrics("mps_default")

    def __init__(self, accepted_from=0.0):
        self.log = logging.getLogger("airflow_provider_mps.hook")
        self.client = SimpleNamespace(credential=Credential(), connection=CONNECTION)
        self.accepted_from = accepted_from
        self.refreshes = []
        self.failures = []
        self.available_from = 0.0
        self.probes = []

    async def aget_conn(self):
        return self.client

    async def arefresh_credentials(self, expired, error):
        self.refreshes.append(asyncio.get_running_loop().time())
        if self.failures:
            raise self.failures.pop(0)
        assert self.client.credential is expired
        self.client.credential = Credential()

    async def acall_once(self, call):
        self.probes.append(asyncio.get_running_loop().time())
        raise make_api_error("ResourceNotFound" if self.probes[-1] >= self.available_from else NOT_SENT, "probe")


class Requests:
    """Requests through a gate; each takes a second."""

    def __init__(self, hook):
        self.hook = hook
        self.gate = RequestGate(hook, "DescribeTextToSpeechAsyncTask", logging.getLogger("airflow_provider_mps.gate"))
        self.sent = []
        self.in_flight = self.most_in_flight = 0

    async def send(self):
        """Send a request until MPS accepts it, and return that time."""
        loop = asyncio.get_running_loop()
        while True:
            permit = await self.gate.acquire()
            self.sent.append(loop.time())
            self.in_flight += 1
            self.most_in_flight = max(self.in_flight, self.most_in_flight)
            await asyncio.sleep(1)
            self.in_flight -= 1
            accepted = self.sent[-1] >= self.hook.accepted_from
            self.gate.record_outcome(permit, None if accepted else REJECTED)
            self.gate.release(permit)
            if accepted:
                return loop.time()


def simulate(main, hook=None):
    async def run():
        return await main(Requests(hook or Hook()))

    return run_in_simulated_time(run())


def test_acquire_accepted_credentials_allows_parallel_requests():
    async def main(requests):
        await asyncio.gather(*(requests.send() for _ in range(50)))
        assert requests.most_in_flight == 50
        assert requests.hook.refreshes == []

    simulate(main)


@pytest.mark.parametrize(("has_worked", "seconds"), [(False, 25), (True, ROTATION_GRACE_SECONDS - 5)])
def test_acquire_key_replaced_within_grace_period_fails_no_request(caplog, has_worked, seconds):
    async def main(requests):
        if has_worked:
            await requests.send()
        started = asyncio.get_running_loop().time()
        requests.hook.accepted_from = started + seconds
        ended = await asyncio.gather(*(requests.send() for _ in range(50)))
        assert min(ended) >= started + seconds
        return requests

    requests = simulate(main)
    probes = [moment for moment in requests.sent if moment < requests.hook.accepted_from]
    # Fifty at first, and then one at a time.
    assert len(probes) < 50 + 2 * seconds / 1
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "Probing with one request at a time" in warning
    assert "SecretIdNotFound" in warning


def test_acquire_refreshed_key_rejected_probes_one_at_a_time():
    async def main(requests):
        sends = [asyncio.create_task(requests.send()) for _ in range(20)]
        await asyncio.sleep(1.5)
        requests.most_in_flight = requests.in_flight
        await asyncio.wait(sends)
        assert {send.exception() for send in sends} == {REJECTED}
        assert requests.most_in_flight == 1

    simulate(main, Hook(accepted_from=1e9))


@pytest.mark.parametrize(("has_worked", "seconds"), [(False, FIRST_USE_GRACE_SECONDS), (True, ROTATION_GRACE_SECONDS)])
def test_acquire_grace_period_over_raises_last_error(has_worked, seconds):
    async def main(requests):
        if has_worked:
            await requests.send()
        requests.hook.accepted_from = 1e9
        started = asyncio.get_running_loop().time()
        with pytest.raises(MpsPermanentError, match="SecretIdNotFound"):
            await requests.send()
        return asyncio.get_running_loop().time() - started

    assert seconds <= simulate(main) <= seconds + 5


def test_acquire_key_accepted_by_other_gate_gets_rotation_grace():
    async def main(requests):
        await requests.send()
        later = Requests(requests.hook)
        requests.hook.accepted_from = asyncio.get_running_loop().time() + ROTATION_GRACE_SECONDS - 5
        await later.send()

    simulate(main)


def test_acquire_first_rejection_refreshes_at_once():
    async def main(requests):
        requests.hook.accepted_from = started = asyncio.get_running_loop().time() + 0.5
        assert await requests.send() - started <= 2
        assert len(requests.hook.refreshes) == 1

    simulate(main)


def test_acquire_connection_missing_briefly_is_retried():
    async def main(requests):
        requests.hook.accepted_from = asyncio.get_running_loop().time() + 3
        requests.hook.failures = [InvalidMpsConnectionError("does not exist")] * 2
        await requests.send()

    simulate(main)


def test_acquire_connection_missing_raises_connection_error():
    async def main(requests):
        requests.hook.accepted_from = 1e9
        requests.hook.failures = [InvalidMpsConnectionError("does not exist")] * 1000
        with pytest.raises(InvalidMpsConnectionError, match="does not exist"):
            await requests.send()

    simulate(main)


def test_acquire_inconclusive_probe_is_repeated():
    async def main(requests):
        gate, loop = requests.gate, asyncio.get_running_loop()
        first = await gate.acquire()
        gate.record_outcome(first, REJECTED)
        gate.release(first)
        for error in (make_api_error("InternalError", "no"), make_api_error("RequestLimitExceeded", "slower")):
            probe = await gate.acquire()
            gate.record_outcome(probe, error)
            gate.release(probe)
        assert len(requests.hook.refreshes) == 2  # during the outage, the key may have been replaced
        probe = await gate.acquire()
        waiting = loop.create_task(gate.acquire())
        await asyncio.sleep(60)
        assert not waiting.done()
        gate.record_outcome(probe, make_api_error("ResourceNotFound", "no such task"))  # the key was accepted
        gate.release(probe)
        assert gate.can_send(await waiting)

    simulate(main)


def test_record_outcome_replaced_credentials_is_ignored():
    async def main(requests):
        gate = requests.gate
        early, late = await gate.acquire(), await gate.acquire()
        gate.record_outcome(early, REJECTED)
        gate.release(early)
        probe = await gate.acquire()
        gate.record_outcome(late, REJECTED)
        assert not gate.can_send(late)
        gate.record_outcome(probe)
        gate.release(probe)
        assert gate.can_send(await gate.acquire())
        assert len(requests.hook.refreshes) == 1

    simulate(main)


async def break_off(hook, seconds):
    """Let a request get no response, in an outage of some seconds, and return its gate."""
    hook.available_from = asyncio.get_running_loop().time() + seconds
    gate = RequestGate(hook, "TextToSpeechAsync", logging.getLogger("airflow_provider_mps.gate"), probe_outages=True)
    permit = await gate.acquire()
    gate.record_outcome(permit, make_api_error(NOT_SENT, "no connection"))
    assert not gate.can_send(permit)
    gate.release(permit)
    return gate


def test_acquire_outage_waits_until_a_probe_gets_a_response():
    async def main(requests):
        gate = await break_off(requests.hook, 100)
        permit = await gate.acquire()
        assert gate.can_send(permit)
        assert 100 <= asyncio.get_running_loop().time() - 1000 <= 117
        assert requests.hook.probes[-2] < requests.hook.available_from <= requests.hook.probes[-1]

    simulate(main)


def test_acquire_outage_longer_than_the_timeout_raises():
    async def main(requests):
        gate = await break_off(requests.hook, 1e9)
        with pytest.raises(AirflowException, match="out of reach for 900 s"):
            await gate.acquire()
        assert OUTAGE_TIMEOUT_SECONDS <= asyncio.get_running_loop().time() - 1000 <= OUTAGE_TIMEOUT_SECONDS + 17
        assert str(gate.close_reason).startswith("MPS was out of reach")

    simulate(main)


def test_acquire_outage_without_probing_does_not_wait():
    async def main(requests):
        permit = await requests.gate.acquire()
        requests.gate.record_outcome(permit, make_api_error(NOT_SENT, "no connection"))
        assert requests.gate.can_send(permit)
        assert requests.hook.probes == []

    simulate(main)


def test_reserve_slot_shares_quota_and_slows_after_throttle():
    async def main(requests):
        other = Requests(requests.hook)
        permits = [await gate.acquire() for gate in (requests.gate, other.gate, requests.gate)]
        slots = [
            gate.reserve_slot(p) for gate, p in zip((requests.gate, other.gate, requests.gate), permits, strict=True)
        ]
        gap = slots[1] - slots[0]
        assert slots[2] - slots[1] == pytest.approx(gap) == pytest.approx(1 / 18)
        requests.gate.record_outcome(permits[0], make_api_error("RequestLimitExceeded", "slower"))
        assert (requests.gate.throttled, other.gate.throttled) == (1, 0)
        assert other.gate.reserve_slot(permits[1]) - slots[2] == pytest.approx(gap / THROTTLE_FACTOR)

    simulate(main)


def test_close_raises_reason_from_all_permits():
    async def main(requests):
        requests.hook.accepted_from = 1e9
        sends = [asyncio.create_task(requests.send()) for _ in range(5)]
        await asyncio.sleep(3)
        requests.gate.close(RuntimeError("enough"))
        await asyncio.wait(sends)
        assert {str(send.exception()) for send in sends} == {"enough"}

    simulate(main)


def test_last_failure_is_kept_until_a_request_is_accepted():
    async def main(requests):
        requests.hook.accepted_from = asyncio.get_running_loop().time() + 10
        send = asyncio.create_task(requests.send())
        await asyncio.sleep(5)
        assert "SecretIdNotFound" in requests.gate.last_failure[1]
        await send
        assert requests.gate.last_failure is None

    simulate(main)


def test_grace_period_restarts_after_an_acceptance():
    grace_period = CredentialGracePeriod()
    grace_period.record_acceptance()
    assert grace_period.record_rejection(1000) == ROTATION_GRACE_SECONDS
    assert grace_period.record_rejection(1100) == ROTATION_GRACE_SECONDS - 100
    grace_period.record_acceptance()
    assert grace_period.record_rejection(2000) == ROTATION_GRACE_SECONDS
