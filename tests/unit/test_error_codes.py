import copy
import pickle
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.error_codes import (
    ERROR_CODES,
    INVALID_RESPONSE,
    NOT_SENT,
    OUTCOME_UNKNOWN,
    UNKNOWN_STATUS,
    ErrorClass,
    PollErrorAction,
    can_retry_query,
    can_retry_submit,
    classify,
    fails_every_submit,
    get_advice,
    get_poll_error_action,
    is_connection_error,
)
from airflow_provider_mps.exceptions import MpsApiError, MpsPermanentError, TextToSpeechTaskFailed, make_api_error

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
def test_classify_documented_code_has_expected_class(error_class, code):
    assert classify(code) is error_class


def test_classify_ignores_mere_prefix():
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
def test_submit_is_retried_only_if_not_accepted(error_class, query, submit):
    assert can_retry_query(error_class) is query
    assert can_retry_submit(error_class) is submit


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("FailedOperation.UserArrears", True),
        ("LimitExceeded", True),
        ("LimitExceeded.Total", True),
        ("UnauthorizedOperation.Foo", True),
        ("FailedOperation.Other", False),
        ("InvalidParameter.Foo", False),
        ("SomethingNew", False),
    ],
)
def test_account_and_connection_errors_fail_every_submit(code, expected):
    assert fails_every_submit(code) is expected


@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.CREDENTIALS_EXPIRED])
def test_make_api_error_permanent_is_fail_exception(error_class):
    error = make_api_error(CLASSES[error_class][0], "no")
    assert isinstance(error, MpsPermanentError)
    assert isinstance(error, AirflowFailException)


@pytest.mark.parametrize("code", ["RequestLimitExceeded", NOT_SENT, "InternalError", "SomethingNew"])
def test_make_api_error_transient_is_retried_by_airflow(code):
    error = make_api_error(code, "not now")
    assert isinstance(error, AirflowException)
    assert not isinstance(error, AirflowFailException)


def test_api_error_message_has_context_code_id_and_advice():
    error = MpsApiError("AuthFailure.SignatureFailure", "The signature is wrong.", "req-7", "Querying task 5")
    assert str(error) == (
        "Querying task 5: AuthFailure.SignatureFailure: The signature is wrong (RequestId req-7). "
        "Check Password (SecretKey)."
    )


def test_api_error_without_request_id_says_so():
    assert "no RequestId" in str(make_api_error(NOT_SENT, "connection refused"))


def test_get_advice_sub_code_inherits_from_parent():
    assert get_advice("UnauthorizedOperation.Foo") == get_advice("UnauthorizedOperation") != ""
    assert get_advice("SomethingNew") == ""


def test_every_code_of_table_has_advice():
    for code in ERROR_CODES:
        advice = get_advice(code)
        assert advice[0].isupper(), code
        assert not advice.endswith("."), code  # the error's text ends the sentence
        assert len(advice.split()) < 25, code


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ActionOffline", "Update airflow-provider-mps"),
        ("AuthFailure.UnauthorizedOperation", "Grant the account this MPS action"),
        ("InvalidParameter.Foo", "Fix the value that the message names"),
        ("InvalidParameterValue", "Fix the value that the message names"),
        ("LimitExceeded.Foo", "Use less of the quota that the message names"),
        ("MissingParameter", "Set the value that the message names"),
        ("RequestLimitExceeded", "Poll less often, or lower requests_per_second"),
        ("RequestSizeLimitExceeded", "Shorten the text"),
        ("UnknownParameter", "Remove the argument that the message names"),
        ("UnsupportedOperation.Foo", "Check the arguments and Region"),
        ("UnsupportedProtocol", "Check Schema (scheme)"),
        ("FailedOperation.Foo", "If this error persists, give Tencent's support the RequestId"),
        ("FailedOperation.UserArrears", "Settle the account's bill"),
        ("InternalError.Foo", "If this error persists, give Tencent's support the RequestId"),
        ("ResourceInsufficient", "If this error persists, give Tencent's support the RequestId"),
        ("ResourceUnavailable.Foo", "If this error persists, give Tencent's support the RequestId"),
    ],
)
def test_get_advice_says_what_to_do(code, advice):
    assert get_advice(code).startswith(advice)


@pytest.mark.parametrize("code", ["FailedOperation", "InternalError", "ResourceInsufficient", "ResourceUnavailable"])
def test_advice_alone_does_not_change_how_a_code_is_handled(code):
    assert classify(code) is classify("SomethingNew") is ErrorClass.OUTCOME_UNKNOWN
    assert get_poll_error_action(code) is get_poll_error_action("SomethingNew") is PollErrorAction.BACK_OFF
    assert not is_connection_error(code)
    assert not fails_every_submit(code)
    # A submit whose outcome is unknown must not be repeated.
    assert not re.search(r"\b(retry|try again|submit)\b", get_advice(code), re.IGNORECASE)


def test_task_failed_message_has_id_code_and_request_id():
    error = TextToSpeechTaskFailed("task-1", 110, "the voice is gone", "req-2")
    assert isinstance(error, AirflowFailException)
    for part in ("task-1", "110", "the voice is gone", "req-2"):
        assert part in str(error)


@pytest.mark.parametrize(
    "error", [MpsApiError("A", "b", "c", "d"), TextToSpeechTaskFailed("t", 1, "m", "r"), MpsPermanentError("A", "b")]
)
@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_exceptions_can_be_copied_and_pickled(error, copied):
    assert str(copied(error)) == str(error)
