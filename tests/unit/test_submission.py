from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.submission import (
    KEY,
    OnUnknown,
    Step,
    Submission,
    first_step,
    max_tries_of,
    state_store,
    try_number_of,
)
from tests.state_store import MemoryStore

ACCEPTED = Submission("same", max_tries=1, sent_at="2026-11-25T10:00:00+00:00", task_id="task-1")
SENT = Submission("same", max_tries=1, sent_at="2026-11-25T10:00:00+00:00")


@pytest.mark.parametrize(
    ("earlier", "fingerprint", "max_tries", "on_unknown", "step"),
    [
        (None, "same", 1, OnUnknown.FAIL, Step.SUBMIT),
        (ACCEPTED, "same", 1, OnUnknown.FAIL, Step.RECONNECT),
        (ACCEPTED, "same", 1, OnUnknown.RESUBMIT, Step.RECONNECT),
        (ACCEPTED, "same", 2, OnUnknown.FAIL, Step.RECONNECT),  # a clear of the same arguments
        (ACCEPTED, "other", 1, OnUnknown.FAIL, Step.SUBMIT),
        (SENT, "same", 1, OnUnknown.FAIL, Step.GIVE_UP),
        (SENT, "same", 1, OnUnknown.RESUBMIT, Step.SUBMIT),
        (SENT, "same", 2, OnUnknown.FAIL, Step.SUBMIT),  # a user's clear, who has been told
        (SENT, "other", 1, OnUnknown.FAIL, Step.GIVE_UP),  # e.g. a template with {{ now }}
        (SENT, "other", 2, OnUnknown.FAIL, Step.SUBMIT),
        (SENT, "other", 1, OnUnknown.RESUBMIT, Step.SUBMIT),
        (replace(SENT, has_ended=True), "same", 1, OnUnknown.FAIL, Step.SUBMIT),  # only a clear can follow
    ],
)
def test_what_a_try_does_first_follows_from_what_is_remembered(earlier, fingerprint, max_tries, on_unknown, step):
    assert first_step(earlier, fingerprint, max_tries, on_unknown) is step


def test_what_is_remembered_is_recalled():
    store = MemoryStore()
    ACCEPTED.remember(store)
    assert Submission.recalled(store) == ACCEPTED


@pytest.mark.parametrize("stored", [None, "text", {"other": "version"}, {}])
def test_what_cannot_be_read_is_as_good_as_nothing(stored):
    store = MemoryStore()
    if stored is not None:
        store.set("mps_submission", stored)
    assert Submission.recalled(store) is None


def test_nothing_is_remembered_before_airflow_3_3():
    assert state_store({}) is None


def test_what_is_sent_is_remembered_with_the_time():
    submission = Submission.beginning("print", 3)
    assert (submission.fingerprint, submission.max_tries, submission.task_id) == ("print", 3, None)
    assert submission.sent_at.endswith("+00:00")


def test_the_tries_are_those_of_the_task_instance():
    assert max_tries_of({"ti": SimpleNamespace(max_tries=4)}) == 4
    assert max_tries_of({}) == 0


def test_another_choice_than_the_two_is_refused():
    with pytest.raises(InvalidRequestError, match="on_unknown must be one of fail, resubmit, not 'retry'"):
        OnUnknown.parse("retry")


def test_what_a_later_version_has_stored_beside_it_hides_nothing():
    store = MemoryStore()
    store.set(KEY, {**asdict(ACCEPTED), "of_a_later_version": 1})
    assert Submission.recalled(store) == ACCEPTED


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
def test_clear_is_recognised_with_changed_retries(earlier, max_tries, try_number, was_cleared):
    assert earlier.was_cleared(max_tries, try_number) is was_cleared


def test_try_number_is_the_one_of_the_task_instance():
    assert try_number_of({"ti": SimpleNamespace(try_number=3)}) == 3
    assert try_number_of({}) == 0
