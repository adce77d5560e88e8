"""How often, and for how long, a call is repeated. Hooks import this, and tenacity with it, at the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_random_exponential,
)

from airflow_provider_mps.errors import MpsApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

    from airflow_provider_mps.api import ApiCall
    from airflow_provider_mps.connection import MpsConnection

T = TypeVar("T")

CHANGE_LOOK_UPS = 6
"""Look-ups of a connection whose credentials are refused, two seconds apart."""


def patiently(once: Callable[[ApiCall[T]], T], call: ApiCall[T], log: Any) -> T:
    """
    Make a call, and make it again for some seconds where that may help and costs nothing.

    :param once: makes it once
    :param call: what :mod:`~airflow_provider_mps.api` describes
    :param log: where each failure is told, at the level DEBUG
    :raises MpsApiError: what the last try raised
    """
    result: T = Retrying(**_patience(call, log))(once, call)
    return result


async def apatiently(once: Callable[[ApiCall[T]], Awaitable[T]], call: ApiCall[T], log: Any) -> T:
    """Do :func:`patiently` in an event loop."""
    result: T = await AsyncRetrying(**_patience(call, log))(once, call)
    return result


def wait_for_change(look_up: Callable[[], MpsConnection], known: MpsConnection | None) -> bool:
    """
    Wait some seconds for a connection to change, and return whether it did: its key may be being replaced.

    :param look_up: reads the connection; while it is edited, this may fail
    :param known: what it said before
    """
    if known is None or known.secret_id is None:
        return False  # its keys come from elsewhere

    def has_changed() -> bool:
        try:
            return look_up() != known
        except Exception:  # noqa: BLE001 - the caller raises the refusal, which says more
            return False

    return bool(Retrying(**_change())(has_changed))


async def await_change(look_up: Callable[[], Awaitable[MpsConnection]], known: MpsConnection) -> bool:
    """Do :func:`wait_for_change` in an event loop."""
    if known.secret_id is None:
        return False

    async def has_changed() -> bool:
        try:
            return await look_up() != known
        except Exception:  # noqa: BLE001 - as above
            return False

    return bool(await AsyncRetrying(**_change())(has_changed))


def _change() -> dict[str, Any]:
    return {
        "retry": retry_if_result(lambda has_changed: not has_changed),
        "stop": stop_after_attempt(CHANGE_LOOK_UPS),
        "wait": wait_fixed(2),
        "retry_error_callback": lambda _: False,
    }


def _patience(call: ApiCall[Any], log: Any) -> dict[str, Any]:
    def repeat(error: BaseException) -> bool:
        return isinstance(error, MpsApiError) and call.may_repeat(error.error_class)

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.debug("Attempt %s of %s failed: %s", state.attempt_number, call.action, error)

    return {
        "retry": retry_if_exception(repeat),
        "stop": stop_after_attempt(4) | stop_after_delay(20),
        "wait": wait_random_exponential(multiplier=0.5, max=5),
        "before_sleep": tell,
        "reraise": True,
    }
