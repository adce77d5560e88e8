"""Decide when a request may be sent: rate limit, credentials, and a circuit breaker for outages."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.api.actions import make_describe_call
from airflow_provider_mps.error_codes import ErrorClass, classify, is_credential_error
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError, MpsPermanentError
from airflow_provider_mps.polling.intervals import CredentialGracePeriod, PollInterval
from airflow_provider_mps.polling.rate_limiter import RateLimiter
from airflow_provider_mps.redaction import describe_error, get_safe_cause

if TYPE_CHECKING:
    from airflow_provider_mps.api.client import AsyncClient
    from airflow_provider_mps.api.credentials import Credential
    from airflow_provider_mps.hooks.mps import MpsHook

MAX_FAILURES = 15
"""Attempts (about three minutes of backoff) after which an unexpected error of the lookup ends the wait."""
OUTAGE_TIMEOUT_SECONDS = 900.0
"""How long an outage may last before the gate closes."""
PROBE_TASK_ID = "0-airflow-is-mps-back"
"""A task id that does not exist: querying it is free and shows whether MPS responds."""
ACCEPTED_CONN_IDS: set[str] = set()
"""Connections whose credentials MPS has accepted in this process."""
_BACKOFF = PollInterval(1.0)
_RATE_LIMITERS: WeakKeyDictionary[Any, dict[tuple[str, str, str], RateLimiter]] = WeakKeyDictionary()
"""By event loop, then by quota: connection, region and action. A rate limiter outlives the gates that share it."""


@dataclass(eq=False)
class Permit:
    """Permission to send one request with the client's present credentials."""

    client: AsyncClient
    credential: Credential
    sent_at: float = 0.0
    """The slot reserved for the request, on the event loop's clock."""


@dataclass
class _Rejection:
    credential: Credential | None
    """The credentials rejected last; ``None`` if there were none to send."""
    error: Exception
    count: int = 1
    is_refreshed: bool = False
    """Whether refreshed credentials are in use that MPS has neither accepted nor rejected yet."""


class RequestGate:
    """
    Pace requests within one quota, and hold them back while they cannot succeed.

    - Rate limit: :meth:`reserve_slot` spaces requests evenly, and more widely after MPS has throttled one.
    - Credentials: when MPS rejects them, they are refreshed, and one request at a time probes them, with backoff. After
      the grace period the last error is raised. Transient failures of the connection lookup or of assuming a role are
      retried.
    - Outage: with ``probe_outages``, a request without a response opens a circuit breaker. Until MPS responds to a
      free status check, :meth:`acquire` waits. After ``OUTAGE_TIMEOUT_SECONDS`` the gate closes.

    :param action: API action whose quota the requests share
    :param log: for warnings about the connection and about an outage
    :param probe_outages: whether to open the circuit breaker; otherwise the caller retries each request by itself
    """

    def __init__(self, hook: MpsHook, action: str, log: Any, *, probe_outages: bool = False) -> None:
        self._hook = hook
        self._action = action
        self._log = log
        self._probe_outages = probe_outages
        self.rate_limiter = RateLimiter(1.0)
        """The quota's rate limiter; a placeholder until the first permit."""
        self._grace_period = CredentialGracePeriod()
        self._queue = asyncio.Lock()
        self._rejection: _Rejection | None = None
        self._credential_probe: Permit | None = None
        self._no_credential_probe = asyncio.Event()
        self._no_credential_probe.set()
        self._available = asyncio.Event()
        self._available.set()
        self._outage_probe: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()
        self.close_reason: Exception | None = None
        """Why the gate closed; ``None`` while it is open."""
        self.last_failure: tuple[float, str] | None = None
        """Time (seconds since 1970) and reason of the last failure to send; ``None`` once MPS accepts credentials."""
        self.throttled = 0

    @property
    def is_available(self) -> bool:
        """Whether the gate is not closed, and no outage has opened the circuit breaker."""
        return self.close_reason is None and self._available.is_set()

    async def acquire(self) -> Permit:
        """
        Return a permit once a request may be sent; the caller must release it.

        :raises InvalidMpsConnectionError: if the connection is missing or must be fixed
        :raises MpsPermanentError: if MPS still rejects the credentials at the end of the grace period
        """
        async with self._queue:
            while True:
                await self._no_credential_probe.wait()
                await self._available.wait()
                await self._back_off()
                try:
                    client = await self._prepare_client()
                except (InvalidMpsConnectionError, MpsPermanentError) as error:
                    # While a key is replaced, its connection may be missing or incomplete for a moment.
                    if not (self._rejection or (isinstance(error, MpsApiError) and is_credential_error(error.code))):
                        raise
                    self._record_rejection(None, error)
                else:
                    break
            region, rate = client.connection.region, client.connection.requests_per_second
            rate_limiters = _RATE_LIMITERS.setdefault(asyncio.get_running_loop(), {})
            quota = (self._hook.mps_conn_id, region, self._action)
            self.rate_limiter = rate_limiters.setdefault(quota, RateLimiter(rate))
            self.rate_limiter.requests_per_second = rate
            permit = Permit(client, client.credential)
            if self._rejection is not None:
                self._credential_probe = permit
                self._no_credential_probe.clear()
            return permit

    def can_send(self, permit: Permit) -> bool:
        """Return whether the request may still be sent some time after :meth:`acquire`."""
        return self.is_available and permit.credential is permit.client.credential and self._is_current(permit)

    def release(self, permit: Permit) -> None:
        """Give a permit back; if its request probed the credentials, the next one may follow."""
        if permit is self._credential_probe:
            self._credential_probe = None
            self._no_credential_probe.set()

    def reserve_slot(self, permit: Permit, lead: float = 0.0) -> float:
        """Reserve and return the time at which to send a request, at least ``lead`` seconds from now."""
        now = asyncio.get_running_loop().time()
        permit.sent_at = max(now + lead, self.rate_limiter.next_send_time(now))
        self.rate_limiter.record_request(permit.sent_at)
        return permit.sent_at

    def record_sending(self, permit: Permit) -> None:
        """Record that the request is sent now, perhaps a little later than its slot."""
        self.rate_limiter.record_sending(permit.sent_at, asyncio.get_running_loop().time())

    async def sleep_until(self, when: float) -> None:
        """Sleep until a time on the event loop's clock, or until the gate closes."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self.closed.wait()

    def record_outcome(self, permit: Permit, error: AirflowException | None = None) -> None:
        """Adapt to the outcome of a request: how it failed, or ``None`` if it succeeded."""
        code = error.code if isinstance(error, MpsApiError) else ""
        error_class = classify(code)
        if error is not None and is_credential_error(code):
            # A request in flight may have been signed with credentials that have been replaced since.
            if permit.credential is permit.client.credential:
                self._record_rejection(permit.credential, error)
        elif (error is None or error_class is ErrorClass.PERMANENT) and self._is_current(permit):
            self._grace_period.record_acceptance()
            ACCEPTED_CONN_IDS.add(self._hook.mps_conn_id)
            self._rejection = self.last_failure = None
        elif error_class is ErrorClass.THROTTLED:
            self.throttled += 1
            self.rate_limiter.record_throttle(permit.sent_at, asyncio.get_running_loop().time())
        elif permit is self._credential_probe and self._rejection is not None:
            # MPS neither accepted nor rejected the credentials, e.g. in an outage: restart the grace period, and
            # refresh before the next probe.
            self._grace_period.rejected_since = None
            self._rejection.is_refreshed = False
        # By the error's type, because the code of a response may be empty.
        is_outage = isinstance(error, MpsApiError) and error_class in {ErrorClass.NOT_SENT, ErrorClass.OUTCOME_UNKNOWN}
        if is_outage and self._probe_outages and self.is_available:
            self._available.clear()
            self._outage_probe = asyncio.create_task(self._probe_until_available())

    def close(self, reason: Exception) -> None:
        """Stop sending: raise an error from every wait for a permit, and end every sleep."""
        if self.close_reason is None:
            self.close_reason = reason
        for event in (self.closed, self._no_credential_probe, self._available):
            event.set()
        if self._outage_probe is not None:
            self._outage_probe.cancel()

    def _is_current(self, permit: Permit) -> bool:
        return self._rejection is None or permit is self._credential_probe

    def _record_rejection(self, credential: Credential | None, error: Exception) -> None:
        self.last_failure = (time.time(), str(error))
        self._grace_period.has_worked |= self._hook.mps_conn_id in ACCEPTED_CONN_IDS
        seconds_left = self._grace_period.record_rejection(asyncio.get_running_loop().time())
        if self._rejection is None:
            self._rejection = _Rejection(credential, error)
        elif credential is None or self._rejection.credential is not credential:
            self._rejection = _Rejection(credential, error, self._rejection.count + 1)
            if self._rejection.count == 2:  # noqa: PLR2004 - the refreshed credentials are rejected, too
                self._hook.log.warning(
                    "MPS rejected the refreshed credentials of connection '%s'. Probing with one request at a time for "
                    "%.0f s: %s",
                    self._hook.mps_conn_id,
                    seconds_left,
                    error,
                )

    async def _back_off(self) -> None:
        """Wait before the next probe of rejected credentials; raise the last error after the grace period."""
        self._raise_if_closed()
        if self._rejection is None or self._rejection.is_refreshed or self._rejection.count == 1:
            return  # the first refresh happens at once
        seconds_left = self._grace_period.record_rejection(asyncio.get_running_loop().time())
        if seconds_left <= 0:
            raise self._rejection.error
        delay = _BACKOFF.delay_after_errors(self._rejection.count - 1, random.random())  # noqa: S311 - no secret
        await self._sleep(min(delay, seconds_left))

    async def _prepare_client(self) -> AsyncClient:
        """Return the client with credentials that it can sign with, and retry transient failures."""
        failures = 0
        while True:
            try:
                client = await self._hook.aget_conn()
                if self._rejection is not None and not self._rejection.is_refreshed:
                    await self._hook.arefresh_credentials(client.credential, self._rejection.error)
                    self._rejection.is_refreshed = True
                await client.credential.refresh()
            except (InvalidMpsConnectionError, MpsPermanentError):
                raise
            except Exception as error:  # noqa: BLE001 - any secrets backend may raise anything
                # An error of a secrets backend may contain a URL with credentials.
                failures += 1
                reason = str(error) if isinstance(error, MpsApiError) else describe_error(error)
                if not isinstance(error, MpsApiError) and failures >= MAX_FAILURES:
                    message = f"Connection '{self._hook.mps_conn_id}' cannot be used: {reason}"
                    raise AirflowException(message) from get_safe_cause(error)
                self.last_failure = (time.time(), reason)
                delay = _BACKOFF.delay_after_errors(failures, random.random())  # noqa: S311 - no secret
                self._log.warning(
                    "Using connection '%s' failed, will retry in %.0f s: %s", self._hook.mps_conn_id, delay, reason
                )
                await self._sleep(delay)
            else:
                return client

    async def _sleep(self, seconds: float) -> None:
        await self.sleep_until(asyncio.get_running_loop().time() + seconds)
        self._raise_if_closed()

    def _raise_if_closed(self) -> None:
        if self.close_reason is not None:
            raise self.close_reason

    async def _probe_until_available(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for attempt in itertools.count(1):
            await asyncio.sleep(_BACKOFF.delay_after_errors(min(attempt, 4), random.random()))  # noqa: S311
            try:
                with self._hook.metrics.observe_request(0):
                    await self._hook.acall_once(make_describe_call(PROBE_TASK_ID))
            except MpsApiError as error:
                if error.error_class not in {ErrorClass.NOT_SENT, ErrorClass.OUTCOME_UNKNOWN}:
                    break  # MPS responds
                self._log.warning("MPS does not respond. Sending nothing else until it does: %s", error)
                if loop.time() - started > OUTAGE_TIMEOUT_SECONDS:
                    message = f"MPS was out of reach for {OUTAGE_TIMEOUT_SECONDS:g} s. A retry resumes. {error}"
                    self.close(AirflowException(message))
                    return
            except Exception as error:  # noqa: BLE001 - any error must end the wait for a permit
                self.close(error)
                return
            else:
                break
        self._available.set()
