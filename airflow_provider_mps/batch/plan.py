"""What to do with a line, by what is known of it from earlier."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.choice import OnUnknown

if TYPE_CHECKING:
    from airflow_provider_mps.batch.row import Row


class Step(Enum):
    """What to do with a line."""

    SUBMIT = auto()
    WAIT = auto()
    """MPS has it: wait, and store."""
    KEEP = auto()
    """There is nothing to do, or nothing that can be done."""
    CALL_UNKNOWN = auto()
    """It was being sent when the task was killed; nobody knows whether it was accepted."""


_IN_DOUBT = {LineStatus.SUBMITTING, LineStatus.UNKNOWN}


def resolves(known: Row, found: Row) -> bool:
    """
    Return whether a row of another run says what came of a submit that is of an unknown outcome here.

    :param known: what is known of the line
    :param found: of the same line, by a run that may have waited longer for the response
    """
    same_submit = (known.request, known.sent_at) == (found.request, found.sent_at)
    return same_submit and known.status in _IN_DOUBT and found.status not in _IN_DOUBT


def next_step(known: Row | None, fingerprint: str, on_unknown: OnUnknown) -> Step:
    """
    Decide, so that nothing is paid twice and nothing is lost.

    :param known: what the result manifest tells of the line's id
    :param fingerprint: of what is asked for now
    :param on_unknown: whether what may have been accepted is submitted again
    """
    if known is None or known.request != fingerprint:
        return Step.SUBMIT
    match known.status:
        case LineStatus.STORED | LineStatus.FAILED | LineStatus.REFUSED:
            return Step.KEEP
        case LineStatus.PROCESSING | LineStatus.UNSTORED:
            return Step.WAIT
        case LineStatus.UNKNOWN:
            return Step.SUBMIT if on_unknown is OnUnknown.RESUBMIT else Step.KEEP
        case LineStatus.SUBMITTING:
            return Step.SUBMIT if on_unknown is OnUnknown.RESUBMIT else Step.CALL_UNKNOWN
        case _:
            return Step.SUBMIT
