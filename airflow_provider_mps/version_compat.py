"""
Workarounds for older Airflow versions; each names the last version, or the issue, that needs it.

Every ``airflow`` command imports this module, so it imports nothing of Airflow.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import BaseOperator, Context, ObjectStoragePath

    _Base = BaseOperator
else:
    _Base = object


class ExecutionTimeoutMixin(_Base):
    """
    Let a deferred task resume after ``execution_timeout``. Remove after Airflow 2.

    Airflow 2.11 compares ``execution_timeout`` with the age of the attempt before it resumes a deferred task, and
    raises an error that it retries. Classes with this mixin end the wait at that time themselves.
    """

    _time_limit: timedelta | None = None

    @property
    def time_limit(self) -> timedelta | None:
        """The ``execution_timeout`` of the task."""
        return self._time_limit or self.execution_timeout

    def get_deadline(self, context: Any) -> float | None:
        """Return when ``time_limit`` ends, in seconds since 1970: it counts from the start of the attempt."""
        if self.time_limit is None:
            return None
        now, start = time.time(), getattr(context.get("ti"), "start_date", None)
        return (min(now, start.timestamp()) if start else now) + self.time_limit.total_seconds()

    def pre_execute(self, context: Any) -> None:
        """Hide ``execution_timeout`` from Airflow 2 if the task resumes."""
        super().pre_execute(context)
        if version("apache-airflow").startswith("2.") and getattr(context.get("ti"), "next_method", None):
            self._time_limit, self.execution_timeout = self.execution_timeout, None


def can_call_airflow_in_threads() -> bool:
    """
    Return whether a thread of this process can get connections and push XComs. Remove after Airflow 3.2.

    In triggerers of Airflow 3.0 to 3.2, that can end all triggers: https://github.com/apache/airflow/issues/64620
    """
    decoder = getattr(sys.modules.get("airflow.jobs.triggerer_job_runner"), "TriggerCommsDecoder", None)
    return decoder is None or hasattr(decoder, "start_reader")


def iterate_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Return the lines of an ``ObjectStoragePath`` file. Remove after Airflow 3.0, whose files lack ``__iter__``."""
    return iter(file.readline, b"")


def make_uri(path: ObjectStoragePath) -> str:
    """Return a path's URI without its connection id. Remove after Airflow 3.1, whose ``as_uri()`` includes the id."""
    scheme, separator, rest = path.as_uri().partition("://")
    host, slash, key = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{key}"


class LiteralMappedValuesMixin(_Base):
    """
    Use values of ``expand_kwargs(task.output)`` without rendering them.

    Airflow renders them, although it does not render values of ``expand(text=task.output)``. A text such as
    ``{{ conn.mps_default.password }}`` in a manifest would be replaced by the password. Values that are written in the
    DAG, in ``partial`` or in a list of dicts, are rendered as usual.
    Remove after https://github.com/apache/airflow/issues/38745, when Airflow treats both alike.
    """

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        names = [name for name in template_fields if not _is_returned_by_task(self, name, context)]
        unrendered = seen_oids | _get_returned_op_kwargs(self, context)
        super()._do_render_template_fields(parent, names, context, jinja_env, unrendered)


def _is_returned_by_task(operator: BaseOperator, name: str, context: Context) -> bool:
    """Return whether ``expand_kwargs`` has set a field to a value that another task returned."""
    if not operator.has_dag():
        return False
    mapped: Any = operator.dag.get_task(operator.task_id)
    if not _has_returned_kwargs(mapped, "expand_input", context):
        return False
    group = operator.task_group
    written = {
        **operator.dag.default_args,
        **(group.default_args if group and group.default_args else {}),
        **(mapped.partial_kwargs.get("default_args") or {}),
        **mapped.partial_kwargs,
    }
    return bool(name not in written or getattr(operator, name) != written[name])


def _get_returned_op_kwargs(operator: BaseOperator, context: Context) -> set[int]:
    """Return the ids of a decorated function's arguments that ``expand_kwargs`` has got from another task."""
    mapped: Any = operator.dag.get_task(operator.task_id) if operator.has_dag() else None
    if not _has_returned_kwargs(mapped, "op_kwargs_expand_input", context):
        return set()
    written = mapped.partial_kwargs["op_kwargs"]
    op_kwargs: dict[str, Any] = getattr(operator, "op_kwargs", {})
    return {id(value) for name, value in op_kwargs.items() if value is not written.get(name)}


def _has_returned_kwargs(mapped: Any, expand_input: str, context: Context) -> bool:
    """Return whether ``expand_kwargs`` takes the values of this map index from another task."""
    kwargs = getattr(getattr(mapped, expand_input, None), "value", None)
    if isinstance(kwargs, Sequence):  # a list in the DAG, of dicts or of task outputs
        kwargs = kwargs[context["ti"].map_index or 0]
    # Otherwise, it is not mapped, or mapped by `expand` or by a dict in the DAG.
    return kwargs is not None and not isinstance(kwargs, Mapping)


_WARNING_START = "Connection schemes (type: "
_CONN_TYPE = "tencent_mps"


def drop_scheme_warning() -> None:
    """
    Drop the warning that the type ``tencent_mps`` has an underscore. Remove after Airflow 3.3.

    Airflow logs it at every lookup, until https://github.com/apache/airflow/pull/72855. Repeated calls have no effect.
    """
    logging.getLogger("airflow.models.connection.Connection").addFilter(_is_other_record)  # Airflow 2.11 and 3.0
    structlog = sys.modules.get("structlog")  # Airflow 3.1 and later
    processors = structlog.get_config()["processors"] if structlog else None
    # The list itself is changed, because loggers that are already in use keep a reference to it.
    if isinstance(processors, list) and _drop_scheme_warning not in processors:
        processors.insert(0, _drop_scheme_warning)


def _is_other_record(record: logging.LogRecord) -> bool:
    return not _is_scheme_warning(record.msg, record.args)


def _drop_scheme_warning(_: Any, __: str, event: Any) -> Any:
    if _is_scheme_warning(event.get("event"), event.get("positional_args")):
        raise sys.modules["structlog"].DropEvent
    return event


def _is_scheme_warning(message: object, arguments: object) -> bool:
    if not isinstance(message, str) or not message.startswith(_WARNING_START):
        return False
    return f"{_WARNING_START}{_CONN_TYPE})" in message or arguments == (_CONN_TYPE,)
