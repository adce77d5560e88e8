"""Find an Airflow connection, with patience: Airflow says that one does not exist also where it could not look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from tenacity import AsyncRetrying, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from airflow_provider_mps.errors import InvalidMpsConnectionError
from airflow_provider_mps.scheme_warning import drop_scheme_warning

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_mps.hooks.mps import MpsHook

TRIES = 4
"""With seven seconds in all between them."""
ASYNC_TRIES = 6
"""With half a minute: in the triggerer, thousands of tasks end with it where nobody retries them."""


def find_connection(hook: MpsHook, conn_id: str) -> Connection:
    """
    Return a connection as Airflow has it now.

    :raises InvalidMpsConnectionError: when it does not exist
    """
    drop_scheme_warning()
    try:
        found: Connection = Retrying(**_patience(TRIES))(hook.get_connection, conn_id)
    except AirflowNotFoundException as error:
        raise _does_not_exist(hook, conn_id) from error
    return found


async def afind_connection(hook: MpsHook, conn_id: str) -> Connection:
    """Do :func:`find_connection` in an event loop."""
    drop_scheme_warning()
    try:
        found: Connection = await AsyncRetrying(**_patience(ASYNC_TRIES))(get_async_connection, conn_id, hook=hook)
    except AirflowNotFoundException as error:
        raise _does_not_exist(hook, conn_id) from error
    return found


def _patience(tries: int) -> dict[str, Any]:
    return {
        "retry": retry_if_exception_type(AirflowNotFoundException),
        "stop": stop_after_attempt(tries),
        "wait": wait_exponential(),
        "reraise": True,
    }


def _does_not_exist(hook: MpsHook, conn_id: str) -> InvalidMpsConnectionError:
    return InvalidMpsConnectionError(
        f"Connection '{conn_id}' does not exist, or Airflow cannot read its definition. Create it under Admin → "
        f"Connections with the type '{hook.hook_name}', or set AIRFLOW_CONN_{conn_id.upper()}. A URI begins with "
        "tencent-mps://, and what is special in its keys is percent-encoded."
    )
