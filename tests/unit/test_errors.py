import copy
import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.errors import (
    INVALID_RESPONSE,
    NOT_SENT,
    OUTCOME_UNKNOWN,
    UNKNOWN_STATUS,
    ErrorClass,
    MpsApiError,
    MpsPermanentError,
    TextToSpeechTaskFailed,
    advice,
    api_error,
    classify,
    may_query_again,
    may_submit_again,
)

CLASSES = {
    ErrorClass.THROTTLED: ["RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded"],
    ErrorClass.NOT_SENT: [NOT_SENT],
    ErrorClass.OUTCOME_UNKNOWN: [
        OUTCOME_UNKNOWN,
        INVALID_RESPONSE,
        "ServerNetworkError",
        "InternalError",
        "InternalError.Foo",
        "FailedOperation.NetWorkError",
        "ResourceUnavailable",
        "ResourceInsufficient.Foo",
        "SomethingNew",
        "",
    ],
    ErrorClass.CREDENTIALS_EXPIRED: ["AuthFailure.TokenFailure", "AuthFailure.SignatureExpire"],
    ErrorClass.PERMANENT: [
        "AuthFailure",
        "AuthFailure.SignatureFailure",
        "UnauthorizedOperation",
        "UnauthorizedOperation.Foo",
        "InvalidParameter",
        "InvalidParameter.Foo",
        "InvalidParameterValue.Foo.Bar",
        "MissingParameter",
        "UnknownParameter",
        "UnsupportedOperation.Foo",
        "UnsupportedRegion",
        "NoSuchVersion",
        "InvalidAction",
        "ActionOffline",
        "ResourceNotFound.Foo",
        "FailedOperation.UserArrears",
        "LimitExceeded.Foo",
        UNKNOWN_STATUS,
    ],
}


@pytest.mark.parametrize(("error_class", "code"), [(c, code) for c, codes in CLASSES.items() for code in codes])
def test_every_documented_code_has_the_class_that_the_table_gives_it(error_class, code):
    assert classify(code) is error_class


def test_a_name_that_only_begins_like_a_family_is_not_of_that_family():
    assert classify("InvalidParameterFoo") is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("error_class", "query", "submit"),
    [
        (ErrorClass.THROTTLED, True, True),
        (ErrorClass.NOT_SENT, True, True),
        (ErrorClass.OUTCOME_UNKNOWN, True, False),
        (ErrorClass.CREDENTIALS_EXPIRED, False, False),
        (ErrorClass.PERMANENT, False, False),
    ],
)
def test_only_what_was_provably_not_accepted_is_submitted_again(error_class, query, submit):
    assert may_query_again(error_class) is query
    assert may_submit_again(error_class) is submit


@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.CREDENTIALS_EXPIRED])
def test_an_error_that_no_retry_can_mend_is_not_retried_by_airflow(error_class):
    error = api_error(CLASSES[error_class][0], "no")
    assert isinstance(error, MpsPermanentError)
    assert isinstance(error, AirflowFailException)


@pytest.mark.parametrize("code", ["RequestLimitExceeded", NOT_SENT, "InternalError", "SomethingNew"])
def test_an_error_that_may_pass_is_left_to_airflows_retries(code):
    error = api_error(code, "not now")
    assert isinstance(error, AirflowException)
    assert not isinstance(error, AirflowFailException)


def test_an_error_says_what_happened_to_which_task_with_which_request_id_and_what_to_do():
    error = MpsApiError("AuthFailure.SignatureFailure", "The signature is wrong.", "req-7", "Asking for task 5")
    assert str(error) == (
        "Asking for task 5: AuthFailure.SignatureFailure: The signature is wrong (RequestId req-7). "
        "Check Password (SecretKey)."
    )


def test_an_error_without_a_request_id_says_so():
    assert "RequestId none was given" in str(api_error(NOT_SENT, "refused"))


def test_a_sub_code_without_advice_of_its_own_takes_its_familys():
    assert advice("UnauthorizedOperation.Foo") == advice("UnauthorizedOperation") != ""
    assert advice("SomethingNew") == ""


def test_a_failed_task_is_told_with_its_id_error_code_message_and_request_id():
    error = TextToSpeechTaskFailed("task-1", 110, "the voice is gone", "req-2")
    assert isinstance(error, AirflowFailException)
    for part in ("task-1", "110", "the voice is gone", "req-2"):
        assert part in str(error)


@pytest.mark.parametrize(
    "error", [MpsApiError("A", "b", "c", "d"), TextToSpeechTaskFailed("t", 1, "m", "r"), MpsPermanentError("A", "b")]
)
@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_survive_the_way_between_processes(error, copied):
    assert str(copied(error)) == str(error)
