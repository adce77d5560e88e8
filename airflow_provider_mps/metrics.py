"""
Count what MPS accepts and what is stored, with Airflow's stats: StatsD or OpenTelemetry, as Airflow is configured.

A metric never fails a task. If Airflow sends no metrics, counting has no effect.
"""

from __future__ import annotations

import logging
import re
import socket
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import MpsApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

SUBMITTED = "mps.submitted"
CHARACTERS = "mps.characters"
RECONNECTED = "mps.reconnected"
UNKNOWN = "mps.unknown"
THROTTLED = "mps.throttled"
STORED = "mps.stored"
STORED_BYTES = "mps.stored_bytes"
AUDIO_SECONDS = "mps.audio_seconds"
WAITING = "mps.waiting"


@dataclass(frozen=True)
class Metrics:
    """
    The counters of one connection and one operator.

    :param connection: id of the connection
    :param operator: class of the operator, sensor or trigger; the default is for hooks that none of them has made
    """

    connection: str
    operator: str = "MpsHook"

    @property
    def tags(self) -> dict[str, str]:
        """The tags, without characters that StatsD reserves."""
        return {"connection": _clean(self.connection), "operator": _clean(self.operator)}

    @contextmanager
    def observe_request(self, characters: int) -> Iterator[None]:
        """
        Count the outcome of one request.

        :param characters: length of the text, if the request submits one, else 0
        """
        try:
            yield
        except MpsApiError as error:
            if error.error_class is ErrorClass.THROTTLED:
                self._increment(THROTTLED)
            elif characters and error.error_class is ErrorClass.OUTCOME_UNKNOWN:
                self.count_unknown()
            raise
        if characters:
            self._increment(SUBMITTED)
            self._increment(CHARACTERS, characters)

    def count_unknown(self) -> None:
        """Count a text of which it is unknown whether MPS accepted it."""
        self._increment(UNKNOWN)

    def count_reconnect(self) -> None:
        """Count a text that an earlier attempt submitted, and with which this one continues."""
        self._increment(RECONNECTED)

    def count_stored(self, size: int, duration: float | None) -> None:
        """
        Count a stored clip.

        :param size: bytes
        :param duration: seconds of audio; ``None`` if MPS does not report them
        """
        self._increment(STORED)
        self._increment(STORED_BYTES, size)
        if duration is not None:
            self._increment(AUDIO_SECONDS, round(duration, 3))

    def _increment(self, name: str, count: float = 1) -> None:
        try:
            _get_stats().incr(name, count, tags=self.tags)
        except Exception as error:  # noqa: BLE001 - a metric must not fail a task
            _log_failure(f"{type(error).__name__}: {error}")


def prepare_stats() -> None:
    """Create Airflow's stats client and look up the host's name: both may block, e.g. for DNS."""
    try:
        _get_stats().timer()
        get_host()
    except Exception as error:  # noqa: BLE001 - a metric must not fail a task
        _log_failure(f"{type(error).__name__}: {error}")


def report_waiting(counts: Mapping[Metrics, int]) -> None:
    """
    Set the gauge of the tasks for which the triggers of this process wait.

    Without tags, the last process that sets ``mps.waiting`` wins. Therefore the sum is also sent with the host in its
    name, as Airflow does for ``triggers.running``.

    :param counts: by connection and trigger
    """
    host = get_host()
    try:
        stats = _get_stats()
        if _has_tags():
            for metrics, count in counts.items():
                stats.gauge(WAITING, count, tags={**metrics.tags, "hostname": host})
        else:
            for name in (WAITING, f"{WAITING}.{host.replace('.', '__')}"):
                stats.gauge(name, Counter(counts).total())
    except Exception as error:  # noqa: BLE001 - a metric must not fail a task
        _log_failure(f"{type(error).__name__}: {error}")


@cache
def get_host() -> str:
    """Return the host's name, as Airflow's own metrics have it."""
    try:
        from airflow.utils.net import get_hostname

        return _clean(get_hostname())
    except Exception:  # noqa: BLE001 - users can configure the function
        return _clean(socket.gethostname())


def _get_stats() -> Any:
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def _has_tags() -> bool:
    """Return whether tags reach the backend, which Airflow chooses in this order."""
    from airflow.providers.common.compat.sdk import conf

    def is_on(name: str) -> bool:
        return bool(conf.getboolean("metrics", name, fallback=False))

    if is_on("statsd_datadog_enabled"):
        return is_on("statsd_datadog_metrics_tags")
    return is_on("statsd_influxdb_enabled") if is_on("statsd_on") else is_on("otel_on")


def _clean(value: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", value)


@cache
def _log_failure(problem: str) -> None:
    """Log a problem once."""
    log.debug("Sending a metric failed: %s", problem)
