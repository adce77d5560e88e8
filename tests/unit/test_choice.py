import pytest

from airflow_provider_mps.choice import IfExists, OnLineFailure, OnUnknown
from airflow_provider_mps.errors import InvalidRequestError


@pytest.mark.parametrize("choice", [IfExists, OnLineFailure, OnUnknown])
def test_an_argument_takes_each_of_its_words(choice):
    assert [choice.parse(str(word)) for word in choice] == list(choice)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (IfExists, "if_exists must be one of overwrite, skip, fail, not 'hope'"),
        (OnLineFailure, "on_line_failure must be one of fail, continue, not 'hope'"),
        (OnUnknown, "on_unknown must be one of fail, resubmit, not 'hope'"),
    ],
)
def test_any_other_word_is_refused_by_the_arguments_name(choice, said):
    with pytest.raises(InvalidRequestError, match=said):
        choice.parse("hope")


@pytest.mark.parametrize("value", [None, True, 3, [], {}, "FAIL", " fail", "x" * 10_000])
def test_what_is_no_word_is_refused_too(value):
    with pytest.raises(InvalidRequestError) as caught:
        OnUnknown.parse(value)
    assert len(str(caught.value)) < 200
