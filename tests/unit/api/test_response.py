import json

import pytest

from airflow_provider_mps.api.response import MAX_RESPONSE_BYTES, parse_response
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import MpsApiError, MpsPermanentError


def make_body(response):
    return json.dumps({"Response": response}).encode()


def test_response_object_is_returned():
    assert parse_response(200, make_body({"Status": "success"})) == {"Status": "success"}


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"[]", b"{}", b'{"Response": null}', b'{"Response": []}', b"[" * 100_000, b"\xff"],
    ids=str,
)
def test_invalid_response_is_unknown_outcome(body):
    with pytest.raises(MpsApiError, match="cannot be read") as caught:
        parse_response(200, body)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize("status", [204, 302, 404, 407, 500, 502])
def test_http_error_names_status(status):
    with pytest.raises(MpsApiError, match=f"HTTP {status}.*gateway") as caught:
        parse_response(status, b"a gateway's page")
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize("request_id", [{"RequestId": "r"}, {}])
def test_api_error_keeps_code_and_request_id(request_id):
    with pytest.raises(MpsPermanentError) as caught:
        parse_response(200, make_body({"Error": {"Code": "InvalidAction", "Message": "no"}, **request_id}))
    assert (caught.value.code, caught.value.message) == ("InvalidAction", "no")
    assert caught.value.request_id == request_id.get("RequestId", "")


@pytest.mark.parametrize("error", ["boom", [], {}, [{"Code": "x"}], {"Code": 5}, 0, False])
def test_malformed_api_error_raises(error):
    with pytest.raises(MpsApiError):
        parse_response(200, make_body({"Error": error, "Status": "success", "TaskId": "t"}))


def test_long_response_makes_short_error():
    for body in (
        make_body({"Error": {"Code": "x" * 10_000, "Message": "y" * 10_000}}),
        b"z" * (MAX_RESPONSE_BYTES + 1),
    ):
        with pytest.raises(MpsApiError) as caught:
            parse_response(200, body)
        assert len(str(caught.value)) < 1000


def test_lone_surrogate_is_replaced():
    assert parse_response(200, rb'{"Response": {"RequestId": "r\udc00"}}') == {"RequestId": "r?"}
