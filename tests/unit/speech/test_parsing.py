import pytest

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.operators.batch import OnLineFailure
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice
from airflow_provider_mps.storage.if_exists import IfExists


@pytest.mark.parametrize("choice", [IfExists, OnLineFailure, OnUnknown])
def test_parse_choice_accepts_each_value(choice):
    assert [parse_choice(choice, str(member)) for member in choice] == list(choice)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (IfExists, "if_exists must be one of overwrite, skip, fail, not 'ignore'"),
        (OnLineFailure, "on_line_failure must be one of fail, continue, not 'ignore'"),
        (OnUnknown, "on_unknown must be one of fail, resubmit, not 'ignore'"),
    ],
)
def test_parse_choice_rejects_other_text_and_names_argument(choice, message):
    with pytest.raises(InvalidRequestError, match=message):
        parse_choice(choice, "ignore")


@pytest.mark.parametrize("value", [None, True, 3, [], {}, "FAIL", " fail", "x" * 10_000])
def test_parse_choice_rejects_other_types_with_short_error(value):
    with pytest.raises(InvalidRequestError) as caught:
        parse_choice(OnUnknown, value)
    assert len(str(caught.value)) < 200
