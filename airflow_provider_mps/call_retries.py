"""How often, and for how long, a call is repeated. Hooks import this, and tenacity with it, at the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from airflow_provider_mps.errors import MpsApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

    from airflow_provider_mps.api import ApiCall

T = TypeVar("T")


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
