"""
Retry policies for tenacity: API calls, connection look-ups, and the wait for a connection to change.

Each policy is a dict of arguments for ``Retrying`` or ``AsyncRetrying``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
    wait_random_exponential,
)

from airflow_provider_mps.exceptions import MpsApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.api.connection import MpsConnection

MAX_LOOKUPS = 4
"""Look-ups of a connection in a worker, with 7 seconds of backoff in total."""
MAX_ASYNC_LOOKUPS = 6
"""Look-ups in the triggerer, with 31 seconds of backoff: a failure there fails thousands of tasks without a retry."""
MAX_CHANGE_LOOKUPS = 6
"""Look-ups of a connection whose credentials were rejected, two seconds apart."""


def make_call_policy(call: ApiCall[Any], log: Any) -> dict[str, Any]:
    """Retry a call up to three times within 20 seconds, with full jitter; log the error before each retry at DEBUG."""

    def should_retry(error: BaseException) -> bool:
        return isinstance(error, MpsApiError) and call.should_retry(error.error_class)

    def log_attempt(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.debug("Attempt %s of %s failed: %s", state.attempt_number, call.action, error)

    return {
        "retry": retry_if_exception(should_retry),
        "stop": stop_after_attempt(4) | stop_after_delay(20),
        "wait": wait_random_exponential(multiplier=0.5, max=5),
        "before_sleep": log_attempt,
        "reraise": True,
    }


def make_lookup_policy(max_attempts: int) -> dict[str, Any]:
    """Retry if Airflow reports that there is no connection, as it also does while its API server or database fails."""
    return {
        "retry": retry_if_exception_type(AirflowNotFoundException),
        "stop": stop_after_attempt(max_attempts),
        "wait": wait_exponential(),
        "reraise": True,
    }


def wait_for_connection_change(look_up: Callable[[], MpsConnection], known: MpsConnection) -> bool:
    """
    Wait some seconds for a connection to change, and return whether it did; a user may be replacing its key.

    :param look_up: reads the connection; its errors count as "not changed yet"
    :param known: the connection whose credentials were rejected
    """
    # If the connection holds no key, changing it cannot help.
    return known.secret_id is not None and Retrying(**_make_change_policy(known))(look_up) != known


async def await_connection_change(look_up: Callable[[], Awaitable[MpsConnection]], known: MpsConnection) -> bool:
    """Do :func:`wait_for_connection_change` in an event loop."""
    return known.secret_id is not None and await AsyncRetrying(**_make_change_policy(known))(look_up) != known


def _make_change_policy(known: MpsConnection) -> dict[str, Any]:
    return {
        "retry": retry_if_exception_type(Exception) | retry_if_result(lambda connection: connection == known),
        "stop": stop_after_attempt(MAX_CHANGE_LOOKUPS),
        "wait": wait_fixed(2),
        "retry_error_callback": lambda _: known,
    }
