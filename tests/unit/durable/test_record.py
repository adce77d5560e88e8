from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from airflow_provider_mps.durable.record import STATE_KEY, SubmitDecision, SubmitRecord, decide, get_max_tries
from airflow_provider_mps.durable.submit import TEXT, DurableSubmit
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice
from tests.state_store import MemoryStore

ACCEPTED = SubmitRecord("same", max_tries=1, sent_at="2026-11-25T10:00:00+00:00", task_id="task-1")
SENT = SubmitRecord("same", max_tries=1, sent_at="2026-11-25T10:00:00+00:00")


@pytest.mark.parametrize(
    ("earlier", "fingerprint", "max_tries", "on_unknown", "decision"),
    [
        (ACCEPTED, "same", 1, OnUnknown.FAIL, SubmitDecision.RECONNECT),
        (ACCEPTED, "same", 1, OnUnknown.RESUBMIT, SubmitDecision.RECONNECT),
        (ACCEPTED, "same", 2, OnUnknown.FAIL, SubmitDecision.RECONNECT),  # a clear of the same arguments
        (ACCEPTED, "other", 1, OnUnknown.FAIL, SubmitDecision.SUBMIT),
        (SENT, "same", 1, OnUnknown.FAIL, SubmitDecision.FAIL),
        (SENT, "same", 1, OnUnknown.RESUBMIT, SubmitDecision.SUBMIT),
        (SENT, "same", 2, OnUnknown.FAIL, SubmitDecision.SUBMIT),  # a clear, after the error about the unknown outcome
        (SENT, "other", 1, OnUnknown.FAIL, SubmitDecision.FAIL),  # e.g. a template with the time
        (SENT, "other", 2, OnUnknown.FAIL, SubmitDecision.SUBMIT),
        (SENT, "other", 1, OnUnknown.RESUBMIT, SubmitDecision.SUBMIT),
        (replace(SENT, has_ended=True), "same", 1, OnUnknown.FAIL, SubmitDecision.SUBMIT),  # only a clear can follow
    ],
)
def test_decide_follows_record(earlier, fingerprint, max_tries, on_unknown, decision):
    was_cleared = earlier.was_cleared(max_tries, 0)
    assert decide(earlier, fingerprint, on_unknown, was_cleared=was_cleared) is decision


def test_record_load_returns_saved_record():
    store = MemoryStore()
    ACCEPTED.save(store)
    assert SubmitRecord.load(store) == ACCEPTED


@pytest.mark.parametrize("stored", [None, "text", {"other": "version"}, {}])
def test_record_load_unreadable_returns_none(stored):
    store = MemoryStore()
    if stored is not None:
        store.set("mps_submission", stored)
    assert SubmitRecord.load(store) is None


def test_has_store_before_airflow_3_3_is_false():
    assert not DurableSubmit(TEXT, MpsHook(), {}, OnUnknown.FAIL, None).has_store


def test_record_start_has_time_and_no_task_id():
    record = SubmitRecord.start("print", 3)
    assert (record.fingerprint, record.max_tries, record.task_id) == ("print", 3, None)
    assert record.sent_at.endswith("+00:00")


def test_get_max_tries_reads_task_instance():
    assert get_max_tries({"ti": SimpleNamespace(max_tries=4)}) == 4
    assert get_max_tries({}) == 0


def test_on_unknown_invalid_value_raises():
    with pytest.raises(InvalidRequestError, match="on_unknown must be one of fail, resubmit, not 'retry'"):
        parse_choice(OnUnknown, "retry")


def test_record_load_ignores_fields_of_later_version():
    store = MemoryStore()
    store.set(STATE_KEY, {**asdict(ACCEPTED), "field_of_later_version": 1})
    assert SubmitRecord.load(store) == ACCEPTED


@pytest.mark.parametrize(
    ("earlier", "max_tries", "try_number", "was_cleared"),
    [
        (SENT, 1, 2, False),
        (SENT, 2, 2, True),
        (SENT, 1, 3, True),  # more attempts than there were: retries was lowered, then the task cleared
        (SENT, 0, 2, True),
        (replace(SENT, has_ended=True), 1, 2, True),
        (SENT, 1, 0, False),
    ],
)
def test_was_cleared_with_changed_retries(earlier, max_tries, try_number, was_cleared):
    assert earlier.was_cleared(max_tries, try_number) is was_cleared
