import pytest

from airflow_provider_mps.batch.line_processor import LineAction, decide_line_action
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.speech.parsing import OnUnknown


@pytest.mark.parametrize(
    ("status", "step", "resubmit_step"),
    [
        (LineStatus.PENDING, LineAction.SUBMIT, LineAction.SUBMIT),
        (LineStatus.SUBMITTING, LineAction.MARK_UNKNOWN, LineAction.SUBMIT),
        (LineStatus.PROCESSING, LineAction.WAIT, LineAction.WAIT),
        (LineStatus.STORED, LineAction.KEEP, LineAction.KEEP),
        (LineStatus.STORE_FAILED, LineAction.WAIT, LineAction.WAIT),
        (LineStatus.FAILED, LineAction.KEEP, LineAction.KEEP),
        (LineStatus.REJECTED, LineAction.KEEP, LineAction.KEEP),
        (LineStatus.UNKNOWN, LineAction.KEEP, LineAction.SUBMIT),
    ],
)
def test_line_action_for_each_status(status, step, resubmit_step):
    known = Row("clip", 1, status, request="fingerprint")
    assert decide_line_action(known, "fingerprint", OnUnknown.FAIL) is step
    assert decide_line_action(known, "fingerprint", OnUnknown.RESUBMIT) is resubmit_step


def test_new_line_is_submitted():
    assert decide_line_action(None, "fingerprint", OnUnknown.FAIL) is LineAction.SUBMIT


@pytest.mark.parametrize("status", LineStatus)
def test_changed_line_is_submitted(status):
    assert decide_line_action(Row("clip", 1, status, request="old"), "new", OnUnknown.FAIL) is LineAction.SUBMIT
