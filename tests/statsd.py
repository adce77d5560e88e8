"""A StatsD server that keeps the metrics it gets, and Airflow's stats pointed at it."""

from __future__ import annotations

import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

WAIT_SECONDS = 60.0
_LINE = re.compile(r"(?P<name>[^,:]+)(?P<tags>(?:,[^,=:]+=[^,=:]+)*):(?P<value>[^|]+)\|(?P<type>c|g|ms)")


@dataclass(frozen=True)
class Metric:
    """One metric of a datagram."""

    name: str
    value: float
    type: str
    tags: dict[str, str]


class StatsdListener:
    """Listen on a UDP port of its own while the ``with`` block runs."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._datagrams: list[str] = []
        self._received = threading.Condition()
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> StatsdListener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        while self._thread.is_alive():
            self._send("stop")  # again, because UDP loses what does not fit into the buffer
            self._thread.join(0.1)
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which Airflow sends its metrics here, with tags."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def read(self) -> list[str]:
        """Return what was sent so far."""
        marker = uuid.uuid4().hex
        self._send(marker)
        with self._received:
            assert self._received.wait_for(lambda: marker in self._datagrams, WAIT_SECONDS)
            self._datagrams.remove(marker)
            return list(self._datagrams)

    def metrics(self, name: str = "", **tags: str) -> list[Metric]:
        """Return the metrics of this provider with a name and tags; by default all."""
        found = []
        for datagram in self.read():
            for line in datagram.splitlines():
                if not line.startswith("airflow.mps."):
                    continue
                matched = _LINE.fullmatch(line)
                assert matched, line
                pairs = dict(pair.split("=") for pair in matched["tags"].split(",") if pair)
                found.append(
                    Metric(matched["name"].removeprefix("airflow."), float(matched["value"]), matched["type"], pairs)
                )
        return [
            each for each in found if name in {"", each.name} and all(each.tags.get(k) == v for k, v in tags.items())
        ]

    def sums(self, **tags: str) -> dict[str, float]:
        """Return the sum of each counter."""
        sums: dict[str, float] = {}
        for metric in self.metrics(**tags):
            if metric.type == "c":
                sums[metric.name.removeprefix("mps.")] = sums.get(metric.name.removeprefix("mps."), 0) + metric.value
        return sums

    def gauges(self, name: str = "mps.waiting", **tags: str) -> list[float]:
        """Return the values that a gauge had, one after the other."""
        return [metric.value for metric in self.metrics(name, **tags)]

    def _send(self, text: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), ("127.0.0.1", self.port))

    def _receive(self) -> None:
        while (text := self._socket.recv(65536).decode()) != "stop":
            with self._received:
                self._datagrams.append(text)
                self._received.notify_all()


@contextmanager
def send_stats(listener: StatsdListener, patch: pytest.MonkeyPatch, **environment: str) -> Iterator[None]:
    """
    Let Airflow's stats in this process send to a listener.

    :param environment: overrides that of the listener
    """
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

    for name, value in {**listener.environment, **environment}.items():
        patch.setenv(name, value)
    stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
    try:
        yield
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
