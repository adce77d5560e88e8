import pytest

from airflow_provider_mps.triggers.consequence import Consequence, consequence


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("RequestLimitExceeded", Consequence.SLOW_DOWN),
        ("RequestLimitExceeded.UinLimitExceeded", Consequence.SLOW_DOWN),
        ("AuthFailure.TokenFailure", Consequence.RENEW_CREDENTIALS),
        ("AuthFailure.SignatureExpire", Consequence.RENEW_CREDENTIALS),
        ("AuthFailure.SecretIdNotFound", Consequence.RENEW_CREDENTIALS),
        ("AuthFailure.SignatureFailure", Consequence.RENEW_CREDENTIALS),
        ("AuthFailure.UnauthorizedOperation", Consequence.END),
        ("UnauthorizedOperation", Consequence.END),
        ("ResourceNotFound", Consequence.END),
        ("InvalidParameterValue.TaskId", Consequence.END),
        ("UnknownStatus", Consequence.END),
        ("InvalidAction", Consequence.END_ALL),
        ("NoSuchVersion", Consequence.END_ALL),
        ("IpNotInWhitelist", Consequence.END_ALL),
        ("InternalError", Consequence.BACK_OFF),
        ("ClientNetworkError.NotSent", Consequence.BACK_OFF),
        ("ClientNetworkError.OutcomeUnknown", Consequence.BACK_OFF),
        ("InvalidResponse", Consequence.BACK_OFF),
        ("SomethingNew", Consequence.BACK_OFF),
    ],
)
def test_what_an_error_means_for_the_task_and_for_the_others(code, expected):
    assert consequence(code) is expected
