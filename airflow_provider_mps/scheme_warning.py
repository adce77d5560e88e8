"""
Drop Airflow's warning that the connection type ``tencent_mps`` has an underscore, which it logs at every look-up.

The type needs the underscore: Airflow makes it of the hyphen in ``tencent-mps://``. Airflow's own processes log it too,
without a hook being imported, so this imports nothing of Airflow.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

_BEGINNING = "Connection schemes (type: "
_CONN_TYPE = "tencent_mps"


def drop_scheme_warning() -> None:
    """Drop it from now on, for this connection type only; again and again does no harm."""
    logger = logging.getLogger("airflow.models.connection.Connection")  # Airflow 2.11 and 3.0
    if not any(isinstance(known, _Filter) for known in logger.filters):
        logger.addFilter(_Filter())
    structlog = sys.modules.get("structlog")  # later ones
    processors = structlog.get_config()["processors"] if structlog else None
    # Into the list itself, for loggers that were used before keep it.
    if isinstance(processors, list) and _processor not in processors:
        processors.insert(0, _processor)


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_dropped(record.msg, record.args)


def _processor(_: Any, __: str, event: Any) -> Any:
    if _is_dropped(event.get("event"), event.get("positional_args")):
        raise sys.modules["structlog"].DropEvent
    return event


def _is_dropped(message: object, arguments: object) -> bool:
    if not isinstance(message, str) or not message.startswith(_BEGINNING):
        return False
    return f"{_BEGINNING}{_CONN_TYPE})" in message or arguments == (_CONN_TYPE,)
