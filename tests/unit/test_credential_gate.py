"""How refused credentials are refreshed and probed, in simulated time."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from airflow_provider_mps import credential_gate
from airflow_provider_mps.credential_gate import ROTATION_GRACE_SECONDS, CredentialGate, Grace
from airflow_provider_mps.errors import InvalidMpsConnectionError, MpsPermanentError, api_error
from tests.simulated_time import run_in_simulated_time

REFUSED = api_error("AuthFailure.SecretIdNotFound", "refused")
FIRST_USE_GRACE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def grace(monkeypatch):
    monkeypatch.setattr(credential_gate, "FIRST_USE_GRACE_SECONDS", FIRST_USE_GRACE_SECONDS)


class Credential:
    async def renew(self):
        pass


class Hook:
    """A hook whose connection has a key that MPS accepts from some moment on."""

    mps_conn_id = "mps_default"

    def __init__(self, accepted_from=0.0):
        self.log = logging.getLogger("airflow_provider_mps.hook")
        self.client = SimpleNamespace(credential=Credential())
        self.accepted_from = accepted_from
        self.refreshes = []
        self.failures = []

    async def aget_conn(self):
        return self.client

    async def arenew_credentials(self, expired, error):
        self.refreshes.append(asyncio.get_running_loop().time())
        if self.failures:
            raise self.failures.pop(0)
        assert self.client.credential is expired
        self.client.credential = Credential()


class Requests:
    """Requests through a gate, each of which takes a second."""

    def __init__(self, hook):
        self.hook = hook
        self.gate = CredentialGate(hook, logging.getLogger("airflow_provider_mps.gate"))
        self.sent = []
        self.under_way = self.most_under_way = 0

    async def send(self):
        """Send one request; return when it was accepted."""
        loop = asyncio.get_running_loop()
        while True:
            permit = await self.gate.permit()
            self.sent.append(loop.time())
            self.under_way += 1
            self.most_under_way = max(self.under_way, self.most_under_way)
            await asyncio.sleep(1)
            self.under_way -= 1
            accepted = self.sent[-1] >= self.hook.accepted_from
            self.gate.judge(permit, None if accepted else REFUSED)
            self.gate.release(permit)
            if accepted:
                return loop.time()


def simulate(main, hook=None):
    async def run():
        return await main(Requests(hook or Hook()))

    return run_in_simulated_time(run())


def test_accepted_credentials_let_all_requests_through_at_once():
    async def main(requests):
        await asyncio.gather(*(requests.send() for _ in range(50)))
        assert requests.most_under_way == 50
        assert requests.hook.refreshes == []

    simulate(main)


@pytest.mark.parametrize(("has_worked", "seconds"), [(False, 25), (True, ROTATION_GRACE_SECONDS - 5)])
def test_key_that_is_replaced_within_the_grace_period_fails_no_request(caplog, has_worked, seconds):
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


def test_refreshed_credentials_that_are_refused_are_probed_with_one_request():
    async def main(requests):
        sends = [asyncio.create_task(requests.send()) for _ in range(20)]
        await asyncio.sleep(1.5)
        requests.most_under_way = requests.under_way
        await asyncio.wait(sends)
        assert {send.exception() for send in sends} == {REFUSED}
        assert requests.most_under_way == 1

    simulate(main, Hook(accepted_from=1e9))


@pytest.mark.parametrize(("has_worked", "seconds"), [(False, FIRST_USE_GRACE_SECONDS), (True, ROTATION_GRACE_SECONDS)])
def test_refused_credentials_end_with_the_last_error_after_the_grace_period(has_worked, seconds):
    async def main(requests):
        if has_worked:
            await requests.send()
        requests.hook.accepted_from = 1e9
        started = asyncio.get_running_loop().time()
        with pytest.raises(MpsPermanentError, match="SecretIdNotFound"):
            await requests.send()
        return asyncio.get_running_loop().time() - started

    assert seconds <= simulate(main) <= seconds + 5


def test_key_that_has_passed_another_gate_of_the_process_has_worked():
    async def main(requests):
        await requests.send()
        later = Requests(requests.hook)
        requests.hook.accepted_from = asyncio.get_running_loop().time() + ROTATION_GRACE_SECONDS - 5
        await later.send()

    simulate(main)


def test_first_refresh_comes_at_once():
    async def main(requests):
        requests.hook.accepted_from = started = asyncio.get_running_loop().time() + 0.5
        assert await requests.send() - started <= 2
        assert len(requests.hook.refreshes) == 1

    simulate(main)


def test_connection_that_is_gone_for_a_moment_while_it_is_edited_is_waited_for():
    async def main(requests):
        requests.hook.accepted_from = asyncio.get_running_loop().time() + 3
        requests.hook.failures = [InvalidMpsConnectionError("does not exist")] * 2
        await requests.send()

    simulate(main)


def test_connection_that_stays_away_ends_with_its_own_error():
    async def main(requests):
        requests.hook.accepted_from = 1e9
        requests.hook.failures = [InvalidMpsConnectionError("does not exist")] * 1000
        with pytest.raises(InvalidMpsConnectionError, match="does not exist"):
            await requests.send()

    simulate(main)


def test_probe_without_a_verdict_is_followed_by_another():
    async def main(requests):
        gate, loop = requests.gate, asyncio.get_running_loop()
        first = await gate.permit()
        gate.judge(first, REFUSED)
        gate.release(first)
        for error in (api_error("InternalError", "no"), api_error("RequestLimitExceeded", "slower")):
            probe = await gate.permit()
            gate.judge(probe, error)
            gate.release(probe)
        assert len(requests.hook.refreshes) == 2  # during the outage, the key may have been replaced
        probe = await gate.permit()
        waiting = loop.create_task(gate.permit())
        await asyncio.sleep(60)
        assert not waiting.done()
        gate.judge(probe, api_error("ResourceNotFound", "no such task"))  # the key was accepted
        gate.release(probe)
        assert gate.is_valid(await waiting)

    simulate(main)


def test_response_to_replaced_credentials_changes_nothing():
    async def main(requests):
        gate = requests.gate
        early, late = await gate.permit(), await gate.permit()
        gate.judge(early, REFUSED)
        gate.release(early)
        probe = await gate.permit()
        gate.judge(late, REFUSED)
        assert not gate.is_valid(late)
        gate.judge(probe)
        gate.release(probe)
        assert gate.is_valid(await gate.permit())
        assert len(requests.hook.refreshes) == 1

    simulate(main)


def test_close_ends_all_waiting():
    async def main(requests):
        requests.hook.accepted_from = 1e9
        sends = [asyncio.create_task(requests.send()) for _ in range(5)]
        await asyncio.sleep(3)
        requests.gate.close(RuntimeError("enough"))
        await asyncio.wait(sends)
        assert {str(send.exception()) for send in sends} == {"enough"}

    simulate(main)


def test_trouble_says_why_no_request_can_be_sent_until_one_is_accepted():
    async def main(requests):
        requests.hook.accepted_from = asyncio.get_running_loop().time() + 10
        send = asyncio.create_task(requests.send())
        await asyncio.sleep(5)
        assert "SecretIdNotFound" in requests.gate.trouble[1]
        await send
        assert requests.gate.trouble is None

    simulate(main)


def test_grace_begins_again_after_an_acceptance():
    grace = Grace()
    grace.note_accepted()
    assert grace.note_refused(1000) == ROTATION_GRACE_SECONDS
    assert grace.note_refused(1100) == ROTATION_GRACE_SECONDS - 100
    grace.note_accepted()
    assert grace.note_refused(2000) == ROTATION_GRACE_SECONDS
