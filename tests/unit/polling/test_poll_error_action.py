import pytest

from airflow_provider_mps.error_codes import PollErrorAction, get_poll_error_action


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("RequestLimitExceeded", PollErrorAction.SLOW_DOWN),
        ("RequestLimitExceeded.UinLimitExceeded", PollErrorAction.SLOW_DOWN),
        ("AuthFailure.TokenFailure", PollErrorAction.REFRESH_CREDENTIALS),
        ("AuthFailure.SignatureExpire", PollErrorAction.REFRESH_CREDENTIALS),
        ("AuthFailure.SecretIdNotFound", PollErrorAction.REFRESH_CREDENTIALS),
        ("AuthFailure.SignatureFailure", PollErrorAction.REFRESH_CREDENTIALS),
        ("AuthFailure.UnauthorizedOperation", PollErrorAction.FAIL),
        ("UnauthorizedOperation", PollErrorAction.FAIL),
        ("ResourceNotFound", PollErrorAction.FAIL),
        ("InvalidParameterValue.TaskId", PollErrorAction.FAIL),
        ("UnknownStatus", PollErrorAction.FAIL),
        ("InvalidAction", PollErrorAction.FAIL_ALL),
        ("NoSuchVersion", PollErrorAction.FAIL_ALL),
        ("IpNotInWhitelist", PollErrorAction.FAIL_ALL),
        ("InternalError", PollErrorAction.BACK_OFF),
        ("ClientNetworkError.NotSent", PollErrorAction.BACK_OFF),
        ("ClientNetworkError.OutcomeUnknown", PollErrorAction.BACK_OFF),
        ("InvalidResponse", PollErrorAction.BACK_OFF),
        ("SomethingNew", PollErrorAction.BACK_OFF),
    ],
)
def test_get_poll_error_action_by_code(code, expected):
    assert get_poll_error_action(code) is expected
