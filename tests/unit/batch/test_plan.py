import pytest

from airflow_provider_mps.batch.plan import Step, next_step
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.choice import OnUnknown


@pytest.mark.parametrize(
    ("status", "step", "resubmitting"),
    [
        (LineStatus.PENDING, Step.SUBMIT, Step.SUBMIT),
        (LineStatus.SUBMITTING, Step.CALL_UNKNOWN, Step.SUBMIT),
        (LineStatus.PROCESSING, Step.WAIT, Step.WAIT),
        (LineStatus.STORED, Step.KEEP, Step.KEEP),
        (LineStatus.UNSTORED, Step.WAIT, Step.WAIT),
        (LineStatus.FAILED, Step.KEEP, Step.KEEP),
        (LineStatus.REFUSED, Step.KEEP, Step.KEEP),
        (LineStatus.UNKNOWN, Step.KEEP, Step.SUBMIT),
    ],
)
def test_what_is_known_of_a_line_decides(status, step, resubmitting):
    known = Row("clip", 1, status, request="print")
    assert next_step(known, "print", OnUnknown.FAIL) is step
    assert next_step(known, "print", OnUnknown.RESUBMIT) is resubmitting


def test_a_line_that_is_not_known_is_submitted():
    assert next_step(None, "print", OnUnknown.FAIL) is Step.SUBMIT


@pytest.mark.parametrize("status", LineStatus)
def test_a_line_that_has_changed_is_submitted(status):
    assert next_step(Row("clip", 1, status, request="old"), "new", OnUnknown.FAIL) is Step.SUBMIT
