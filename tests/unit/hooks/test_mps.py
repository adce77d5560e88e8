import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.errors import (
    ErrorClass,
    InvalidRequestError,
    MpsApiError,
    MpsPermanentError,
)
from tests.answers import ACCEPTED, GATEWAY, NO_RESPONSE, NOT_JSON, PROCESSING
from tests.scripted_server import HANG, RESET, ScriptedServer, api_error, json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize(
    "fault",
    [api_error("RequestLimitExceeded"), api_error("InternalError"), NOT_JSON, NO_RESPONSE, GATEWAY, RESET, HANG],
    ids=["throttled", "internal error", "not json", "no response", "502", "reset", "timeout"],
)
def test_a_query_is_repeated_after_an_error_that_may_pass(connect, calls, fault):
    with ScriptedServer(fault, PROCESSING) as server:
        connect(server.connection_uri(f"timeout={1.5 if fault is HANG else 20}"))
        assert calls.describe().request_id == "req-9"
        assert len(server.requests) == 2


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded"])
def test_a_throttled_submit_is_repeated_because_it_was_refused(connect, calls, code):
    with ScriptedServer(api_error(code), ACCEPTED) as server:
        connect(server.connection_uri())
        assert calls.submit() == "task-1"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        api_error("InternalError"),
        api_error("FailedOperation.NetWorkError"),
        NOT_JSON,
        NO_RESPONSE,
        GATEWAY,
        RESET,
        HANG,
    ],
    ids=["internal error", "network error", "not json", "no response", "502", "reset", "timeout"],
)
def test_a_submit_that_may_have_been_accepted_is_never_sent_twice(connect, calls, fault):
    with ScriptedServer(fault, ACCEPTED) as server:
        connect(server.connection_uri(f"timeout={1.5 if fault is HANG else 20}"))
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
        assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
        assert len(server.requests) == 1


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_a_permanent_error_is_asked_once_and_names_connection_and_request_id(connect, calls, call):
    with ScriptedServer(api_error("UnauthorizedOperation", "no such right")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match=r"'mps_default'.*no such right.*req-1") as caught:
            getattr(calls, call)()
        assert isinstance(caught.value, AirflowFailException)
        assert len(server.requests) == 1


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/html"])
def test_an_api_error_is_an_error_whatever_the_content_type(connect, calls, content_type):
    answer = {"Response": {"Error": {"Code": "InvalidParameter", "Message": "x"}, "RequestId": "r"}}
    with ScriptedServer(json_reply(answer, content_type=content_type)) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match="InvalidParameter"):
            calls.describe()


def test_nothing_is_sent_for_an_empty_task_id(connect, calls):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError):
            calls.describe("")
        assert server.requests == []


def test_a_throttled_sts_is_named_and_the_submit_was_not_sent(connect, calls):
    with ScriptedServer(api_error("RequestLimitExceeded", "too many roles")) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(MpsApiError, match=r"Assuming the role arn.*RequestLimitExceeded: too many roles") as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT
