import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidRequestError, MpsApiError, MpsPermanentError
from tests.answers import ACCEPTED, GATEWAY, NO_RESPONSE, NOT_JSON, PROCESSING
from tests.scripted_server import HANG, RESET, ScriptedServer, make_api_error, make_json_reply

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize(
    "fault",
    [
        make_api_error("RequestLimitExceeded"),
        make_api_error("InternalError"),
        NOT_JSON,
        NO_RESPONSE,
        GATEWAY,
        RESET,
        HANG,
    ],
    ids=["throttled", "internal error", "not json", "no response", "502", "reset", "timeout"],
)
def test_query_after_transient_error_is_retried(connect, calls, fault):
    with ScriptedServer(fault, PROCESSING) as server:
        connect(server.connection_uri(f"timeout={1.5 if fault is HANG else 20}"))
        assert calls.describe().request_id == "req-9"
        assert len(server.requests) == 2


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "RequestLimitExceeded.UinLimitExceeded"])
def test_submit_after_throttling_is_retried(connect, calls, code):
    with ScriptedServer(make_api_error(code), ACCEPTED) as server:
        connect(server.connection_uri())
        assert calls.submit() == "task-1"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        make_api_error("InternalError"),
        make_api_error("FailedOperation.NetWorkError"),
        NOT_JSON,
        NO_RESPONSE,
        GATEWAY,
        RESET,
        HANG,
    ],
    ids=["internal error", "network error", "not json", "no response", "502", "reset", "timeout"],
)
def test_submit_with_unknown_outcome_is_sent_once(connect, calls, fault):
    with ScriptedServer(fault, ACCEPTED) as server:
        connect(server.connection_uri(f"timeout={1.5 if fault is HANG else 20}"))
        with pytest.raises(MpsApiError) as caught:
            calls.submit()
        assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN
        assert len(server.requests) == 1


@pytest.mark.parametrize("call", ["describe", "submit"])
def test_permanent_error_is_not_retried(connect, calls, call):
    with ScriptedServer(make_api_error("UnauthorizedOperation", "no such right")) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match=r"'mps_default'.*no such right.*req-1") as caught:
            getattr(calls, call)()
        assert isinstance(caught.value, AirflowFailException)
        assert len(server.requests) == 1


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/html"])
def test_api_error_with_any_content_type_raises(connect, calls, content_type):
    body = {"Response": {"Error": {"Code": "InvalidParameter", "Message": "x"}, "RequestId": "r"}}
    with ScriptedServer(make_json_reply(body, content_type=content_type)) as server:
        connect(server.connection_uri())
        with pytest.raises(MpsPermanentError, match="InvalidParameter"):
            calls.describe()


def test_describe_with_empty_task_id_sends_nothing(connect, calls):
    with ScriptedServer(PROCESSING) as server:
        connect(server.connection_uri())
        with pytest.raises(InvalidRequestError):
            calls.describe("")
        assert server.requests == []


def test_submit_with_throttled_sts_is_not_sent(connect, calls):
    with ScriptedServer(make_api_error("RequestLimitExceeded", "too many roles")) as server:
        connect(server.connection_uri("role_arn=arn"))
        with pytest.raises(MpsApiError, match=r"Assuming the role arn.*RequestLimitExceeded: too many roles") as caught:
            calls.submit()
    assert caught.value.error_class is ErrorClass.NOT_SENT
