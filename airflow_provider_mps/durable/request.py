"""Record a request that MPS bills or counts, just before it is sent, in Airflow's task state store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.durable.record import SubmitRecord, get_max_tries
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_mps.hooks.mps import MpsHook


class DurableRequest:
    """
    The request of one task instance, over all of its attempts.

    Airflow's task state store (3.3 and later) keeps the record over retries. Airflow 3.3 keeps it over a clear, too;
    later versions may delete it then (apache/airflow#72100).

    :param key: of the record in the store
    :param noun: what is sent, for errors
    :param durable: ``False``: keep no record
    """

    def __init__(
        self, key: str, noun: str, hook: MpsHook, context: Mapping[str, Any], log: Any, *, durable: bool
    ) -> None:
        self._key = key
        self._noun = noun
        self._hook = hook
        self._store = context.get("task_state_store") if durable else None
        self._max_tries = get_max_tries(context)
        self._try_number = getattr(context.get("ti"), "try_number", None) or 0
        self._log = log
        self._pending: SubmitRecord | None = None
        self._is_cancelled = False

    @property
    def has_store(self) -> bool:
        """Whether a later attempt can continue with what this one submits."""
        return self._store is not None

    def cancel(self) -> None:
        """Send no further request: Airflow ends the attempt, and its signal handler does not interrupt the task."""
        self._is_cancelled = True

    @contextmanager
    def record_request(self, record: SubmitRecord) -> Iterator[None]:
        """
        Record that a request is sent; restore the earlier record if MPS provably did not accept it.

        :raises AirflowException: if Airflow ends the attempt; nothing is sent
        """
        if self._is_cancelled:
            raise AirflowException(
                f"Airflow ended this attempt before the {self._noun} was sent, so it was not submitted."
            )
        earlier = None
        if self._store:
            earlier = self._store.get(self._key)
            record.save(self._store, self._key)
        self._pending = record
        try:
            yield
        except (MpsApiError, InvalidMpsConnectionError) as error:
            if getattr(error, "error_class", None) is not ErrorClass.OUTCOME_UNKNOWN:
                self._pending = None
                self._restore(earlier)
            raise

    def record_end(self) -> None:
        """Record that the attempt has failed permanently: only a clear can follow."""
        try:
            record = SubmitRecord.load(self._store, self._key)
            if record is not None and not record.has_ended:
                self._store.set(self._key, {**self._store.get(self._key), "has_ended": True})  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - the failure of the task is the error to report
            self._log.warning("Airflow could not store that this attempt has ended: %s", error)

    def _restore(self, earlier: object) -> None:
        try:
            if self._store and earlier is None:
                self._store.delete(self._key)
            elif self._store:
                self._store.set(self._key, earlier)
        except Exception as error:  # noqa: BLE001 - the error of MPS is the one to report
            self._log.error("Airflow could not delete the record of a rejected submit, clear the task: %s", error)
