"""Look up and check the Airflow connection to MPS, without a hook."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from tenacity import AsyncRetrying, Retrying

from airflow_provider_mps.api.actions import make_describe_call
from airflow_provider_mps.api.connection import MpsConnection, parse_conn_id
from airflow_provider_mps.api.retry import MAX_ASYNC_LOOKUPS, MAX_LOOKUPS, make_lookup_policy
from airflow_provider_mps.concurrency import call_interruptibly
from airflow_provider_mps.connection_form import HOOK_NAME
from airflow_provider_mps.error_codes import fails_every_submit
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.version_compat import drop_scheme_warning

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    HookOrClass = BaseHook | type[BaseHook]

TEST_TIMEOUT_SECONDS = 9.0
"""Limit of the connection test: the user waits for it, and a proxy of the UI may wait only 10 seconds."""
NO_SUCH_TASK = "0-airflow-test-connection"
TASK_ERRORS = {"InvalidParameter", "InvalidParameterValue", "ResourceNotFound"}
"""Families of codes with which MPS may respond to a query of a task that does not exist."""


def get_mps_connection(conn_id: str, region: str | None = None, hook: HookOrClass = BaseHook) -> MpsConnection:
    """
    Return the connection as Airflow has it now, with its fields checked.

    :param region: overrides the connection's region
    :param hook: whose ``get_connection`` is called, which a subclass may override
    :raises InvalidMpsConnectionError: if it does not exist or must be fixed
    """
    conn_id = parse_conn_id(conn_id)
    drop_scheme_warning()
    try:
        stored = Retrying(**make_lookup_policy(MAX_LOOKUPS))(hook.get_connection, conn_id)
    except AirflowNotFoundException as error:
        raise _make_not_found_error(conn_id) from error
    return MpsConnection.parse(stored, stored.extra_dejson, region)


async def aget_mps_connection(conn_id: str, region: str | None = None, hook: HookOrClass = BaseHook) -> MpsConnection:
    """Do :func:`get_mps_connection` in an event loop."""
    conn_id = parse_conn_id(conn_id)
    drop_scheme_warning()
    try:
        policy = make_lookup_policy(MAX_ASYNC_LOOKUPS)
        stored: Connection = await AsyncRetrying(**policy)(get_async_connection, conn_id, hook=hook)
    except AirflowNotFoundException as error:
        raise _make_not_found_error(conn_id) from error
    return MpsConnection.parse(stored, await get_async_extra_dejson(stored), region)


def check_connection(conn_id: str, region: str | None = None, hook: HookOrClass = BaseHook) -> tuple[bool, str]:
    """Test a connection, with nine seconds for the request after its look-up; see :meth:`.MpsHook.test_connection`."""
    try:
        connection = get_mps_connection(conn_id, region, hook)
    except InvalidMpsConnectionError as error:
        return False, str(error)
    host = connection.endpoint_for_messages
    deadline = time.monotonic() + TEST_TIMEOUT_SECONDS

    def query() -> None:
        from airflow_provider_mps.api.client import make_client  # noqa: PLC0415 - imports the SDK

        client = make_client(replace(connection, timeout=min(connection.timeout, TEST_TIMEOUT_SECONDS)))
        client.execute(make_describe_call(NO_SUCH_TASK))

    def check_deadline() -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"MPS at {host} did not respond within {TEST_TIMEOUT_SECONDS:g} seconds. Check Host (API domain), "
                "Port, Schema (scheme) and Proxy, and the network."
            )

    try:
        # In a thread: no timeout of a request limits a name look-up or the credential chain.
        call_interruptibly(query, check_deadline)
    except MpsApiError as error:
        # Without the connection's id, which Airflow makes up if the user tests an unsaved form.
        error.context = f"MPS at {host}"
        if fails_every_submit(error.code):
            return False, str(error)
        if error.code.split(".")[0] not in TASK_ERRORS:
            return True, f"MPS did not reject the credentials, but the test is inconclusive: repeat it later. {error}"
    except (InvalidMpsConnectionError, TimeoutError) as error:
        return False, str(error)
    except Exception as error:  # noqa: BLE001 - the user waits for a message, whatever the error is
        return False, (
            f"Testing the connection to MPS at {host} failed with {describe_error(error)}. Check the connection's "
            "fields, the network and the installed packages."
        )
    return True, (
        f"MPS at {host} accepted the credentials, which may query text-to-speech tasks. Submitting was not tested, "
        "because MPS bills it."
    )


def _make_not_found_error(conn_id: str) -> InvalidMpsConnectionError:
    return InvalidMpsConnectionError(
        f"Connection '{conn_id}' does not exist, or Airflow cannot read its definition. Create it under Admin → "
        f"Connections with the type '{HOOK_NAME}', or set AIRFLOW_CONN_{conn_id.upper()}. A URI must begin with "
        "tencent-mps://, with special characters in its keys percent-encoded."
    )
