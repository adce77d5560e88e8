"""Refresh refused credentials, and probe with one request at a time until MPS accepts them: a circuit breaker."""

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

from airflow_provider_mps.errors import (
    ErrorClass,
    InvalidMpsConnectionError,
    MpsApiError,
    MpsPermanentError,
    classify,
    refuses_credentials,
)
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.redaction import cause_of, describe_error

if TYPE_CHECKING:
    from airflow_provider_mps.client import AsyncClient
    from airflow_provider_mps.credentials import Credential
    from airflow_provider_mps.hooks.mps import MpsHook

ROTATION_GRACE_SECONDS = 300.0
"""How long credentials that have worked in this process may be refused: their key may be being replaced."""
FIRST_USE_GRACE_SECONDS = 30.0
"""How long credentials that have not worked in this process may be refused: they are probably wrong."""
MAX_FAILURES = 15
"""Attempts, some five minutes, before an unforeseen error of a connection look-up counts as permanent."""
_BACKOFF = PollInterval(1.0)
ACCEPTED: set[str] = set()
"""Connections whose credentials MPS has accepted in this process, outside of any gate."""
_ACCEPTED: WeakKeyDictionary[asyncio.AbstractEventLoop, set[str]] = WeakKeyDictionary()
"""Connections of which MPS has accepted credentials, whichever gate of the event loop they passed."""


class Grace:
    """Measure for how long credentials have been refused. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.has_worked = False
        """Whether MPS has accepted the connection's credentials before."""
        self._refused_since: float | None = None

    def note_accepted(self) -> None:
        """Note that MPS accepted the credentials."""
        self.has_worked = True
        self._refused_since = None

    def note_unjudged(self) -> None:
        """Note that MPS has neither accepted nor refused the credentials: the grace period begins again."""
        self._refused_since = None

    def note_refused(self, now: float) -> float:
        """Note that MPS refused the credentials, and return the seconds for which they may still be probed."""
        if self._refused_since is None:
            self._refused_since = now
        seconds = ROTATION_GRACE_SECONDS if self.has_worked else FIRST_USE_GRACE_SECONDS
        return self._refused_since + seconds - now


@dataclass(frozen=True, eq=False)
class Permit:
    """Permission to send one request."""

    client: AsyncClient
    credential: Credential
    """What the request is signed with."""


@dataclass
class _Refusal:
    credential: Credential | None
    """What was refused last; ``None`` where no credentials could be had."""
    error: Exception
    count: int = 1
    is_refreshed: bool = False
    """Whether there are credentials since that MPS has not judged yet."""


class CredentialGate:
    """
    Let requests through while MPS accepts the credentials; otherwise refresh them and probe with one request.

    A probe follows a refresh at once, and each further one after a backoff. When the grace period is over, the last
    error is raised. Transient failures of the connection look-up, or of assuming a role, are waited out.

    :param hook: of the connection
    :param log: where these transient failures are logged
    """

    def __init__(self, hook: MpsHook, log: Any) -> None:
        self._hook = hook
        self._log = log
        self._grace = Grace()
        self._accepted = _ACCEPTED.setdefault(asyncio.get_running_loop(), set())
        self._queue = asyncio.Lock()
        self._refusal: _Refusal | None = None
        self._probe: Permit | None = None
        self._no_probe = asyncio.Event()
        self._no_probe.set()
        self._closed = asyncio.Event()
        self._closed_by: BaseException | None = None
        self.trouble: tuple[float, str] | None = None
        """When, in seconds since 1970, and why no request could be sent last; ``None`` once one was accepted."""

    async def permit(self) -> Permit:
        """
        Return once a request may be sent; every permit must be released.

        :raises InvalidMpsConnectionError: when the connection is missing or must be fixed
        :raises MpsPermanentError: when the credentials are still refused at the end of the grace period
        """
        async with self._queue:
            while True:
                await self._no_probe.wait()
                await self._back_off()
                try:
                    client = await self._prepare_client()
                except (InvalidMpsConnectionError, MpsPermanentError) as error:
                    # While a key is replaced, its connection may be gone or incomplete for a moment.
                    if not (self._refusal or (isinstance(error, MpsApiError) and refuses_credentials(error.code))):
                        raise
                    self._note_refusal(None, error)
                else:
                    break
            permit = Permit(client, client.credential)
            if self._refusal is not None:
                self._probe = permit
                self._no_probe.clear()
            return permit

    def is_valid(self, permit: Permit) -> bool:
        """Return whether the request may still be sent, some time after :meth:`permit`."""
        return permit.credential is permit.client.credential and self._counts(permit)

    def judge(self, permit: Permit, error: AirflowException | None = None) -> None:
        """
        Note what a request says of the credentials.

        :param permit: of the request
        :param error: how it failed; ``None`` where it succeeded
        """
        code = error.code if isinstance(error, MpsApiError) else ""
        if error is not None and refuses_credentials(code):
            # One that was under way may have been signed with credentials that have been replaced since.
            if permit.credential is permit.client.credential:
                self._note_refusal(permit.credential, error)
        elif (error is None or classify(code) is ErrorClass.PERMANENT) and self._counts(permit):
            self._grace.note_accepted()
            self._accepted.add(self._hook.mps_conn_id)
            self._refusal = self.trouble = None
        elif permit is self._probe and self._refusal is not None and classify(code) is not ErrorClass.THROTTLED:
            # MPS has judged nothing, e.g. in an outage: that time does not count, and the key may be replaced by now.
            self._grace.note_unjudged()
            self._refusal.is_refreshed = False

    def release(self, permit: Permit) -> None:
        """Let the next request through, whatever became of this one."""
        if permit is self._probe:
            self._probe = None
            self._no_probe.set()

    def close(self, reason: BaseException) -> None:
        """End all waiting for a permit with an error."""
        if self._closed_by is None:
            self._closed_by = reason
        self._closed.set()
        self._no_probe.set()

    def _counts(self, permit: Permit) -> bool:
        return self._refusal is None or permit is self._probe

    def _note_refusal(self, credential: Credential | None, error: Exception) -> None:
        self.trouble = (time.time(), str(error))
        self._grace.has_worked |= self._hook.mps_conn_id in self._accepted | ACCEPTED
        left = self._grace.note_refused(asyncio.get_running_loop().time())
        if self._refusal is None:
            self._refusal = _Refusal(credential, error)
        elif credential is None or self._refusal.credential is not credential:
            self._refusal = _Refusal(credential, error, self._refusal.count + 1)
            if self._refusal.count == 2:  # noqa: PLR2004 - the refreshed credentials are refused, too
                self._hook.log.warning(
                    "The refreshed credentials of connection '%s' do not work either. Probing with one request at a "
                    "time for %.0f s: %s",
                    self._hook.mps_conn_id,
                    left,
                    error,
                )

    async def _back_off(self) -> None:
        """Wait before the next probe; raise the last error where the grace period is over."""
        if self._closed_by is not None:
            raise self._closed_by
        if self._refusal is None or self._refusal.is_refreshed or self._refusal.count == 1:
            return  # the first refresh comes at once
        left = self._grace.note_refused(asyncio.get_running_loop().time())
        if left <= 0:
            raise self._refusal.error
        chance = random.random()  # noqa: S311 - no secret
        await self._sleep(min(_BACKOFF.after_errors(self._refusal.count - 1, chance), left))

    async def _prepare_client(self) -> AsyncClient:
        """Return the client, with keys that it can sign with; transient failures are waited out."""
        for failures in itertools.count(1):
            try:
                client = await self._hook.aget_conn()
                if self._refusal is not None and not self._refusal.is_refreshed:
                    await self._hook.arenew_credentials(client.credential, self._refusal.error)
                    self._refusal.is_refreshed = True
                await client.credential.renew()
            except (InvalidMpsConnectionError, MpsPermanentError):
                raise
            except Exception as error:  # noqa: BLE001 - connections may come from anywhere and fail in any way
                # An error of a secrets backend may hold a URL with credentials.
                reason = str(error) if isinstance(error, MpsApiError) else describe_error(error)
                if not isinstance(error, MpsApiError) and failures >= MAX_FAILURES:
                    message = f"Connection '{self._hook.mps_conn_id}' cannot be used: {reason}"
                    raise AirflowException(message) from cause_of(error)
                self.trouble = (time.time(), reason)
                words = reason.removeprefix(f"{type(error).__name__}: ")
                self._log.warning("Connection '%s' cannot be used now, still trying: %s", self._hook.mps_conn_id, words)
                await self._sleep(_BACKOFF.after_errors(failures, random.random()))  # noqa: S311 - no secret
            else:
                return client
        raise AssertionError("unreachable")

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        if self._closed_by is not None:
            raise self._closed_by
