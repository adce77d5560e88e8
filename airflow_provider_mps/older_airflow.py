"""What older versions of Airflow need done for them: each function names the version that lets it go."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import ObjectStoragePath


class TimeLimit:
    """
    Keep Airflow 2 from ending a resumed task before it has run.

    Airflow 2.11 compares ``execution_timeout`` with the age of the attempt before it resumes a deferred task, and
    raises an error that it retries. Classes with this mixin end the wait at that time, and then resume.
    """

    execution_timeout: timedelta | None
    _time_limit: timedelta | None = None

    @property
    def time_limit(self) -> timedelta | None:
        """The ``execution_timeout`` of the task."""
        return self._time_limit or self.execution_timeout

    def pre_execute(self, context: Any) -> None:
        """Take ``execution_timeout`` away from Airflow 2 if the task resumes."""
        super().pre_execute(context)  # type: ignore[misc]
        if version("apache-airflow").startswith("2.") and getattr(context.get("ti"), "next_method", None):
            self._time_limit, self.execution_timeout = self.execution_timeout, None


def uri_of(path: ObjectStoragePath) -> str:
    """
    Return the URI of a path without its connection id, which ``as_uri()`` tells before Airflow 3.2.

    :param path: any path in object storage
    """
    scheme, separator, rest = path.as_uri().partition("://")
    place, slash, key = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{key}"


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """
    Return the lines of an opened path, which ``for`` cannot walk through before Airflow 3.1.

    :param file: as ``ObjectStoragePath.open("rb")`` returns it
    """
    return iter(file.readline, b"")


def let_paths_know_cos() -> None:
    """
    Let ``cos://`` paths be taken apart as those of S3, which Airflow asks an entry point for from 3.2 on.

    Before, its paths are of a universal-pathlib that knows all schemes by itself.
    """
    if not version("universal-pathlib").startswith("0.2."):
        return
    from upath._flavour import WrappedFileSystemFlavour

    from airflow_provider_mps.fs import cos_path  # noqa: F401 - which names the scheme there

    for rule in ("netloc_is_anchor", "supports_empty_parts"):
        WrappedFileSystemFlavour.protocol_config[rule].add("cos")
    WrappedFileSystemFlavour.from_protocol.cache_clear()


def can_look_up_connections_in_threads() -> bool:
    """
    Return whether a thread of this process may ask Airflow for a connection.

    In a triggerer of Airflow 3.0 to 3.2 that could end all its triggers: https://github.com/apache/airflow/issues/64620
    """
    decoder = getattr(sys.modules.get("airflow.jobs.triggerer_job_runner"), "TriggerCommsDecoder", None)
    return decoder is None or hasattr(decoder, "start_reader")
