import json

import pytest

from airflow_provider_mps.answer import MAX_BYTES, read_answer
from airflow_provider_mps.errors import ErrorClass, MpsApiError, MpsPermanentError


def answer(response):
    return json.dumps({"Response": response}).encode()


def test_the_response_object_is_returned():
    assert read_answer(200, answer({"Status": "success"})) == {"Status": "success"}


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"[]", b"{}", b'{"Response": null}', b'{"Response": []}', b"[" * 100_000, b"\xff"],
    ids=str,
)
def test_an_answer_that_is_none_of_the_api_is_an_unknown_outcome(body):
    with pytest.raises(MpsApiError, match="cannot be read") as caught:
        read_answer(200, body)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize("status", [204, 302, 404, 407, 500, 502])
def test_another_http_status_is_named(status):
    with pytest.raises(MpsApiError, match=f"HTTP {status}.*gateway") as caught:
        read_answer(status, b"a gateway's page")
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


@pytest.mark.parametrize("request_id", [{"RequestId": "r"}, {}])
def test_an_error_is_raised_with_its_code_with_or_without_a_request_id(request_id):
    with pytest.raises(MpsPermanentError) as caught:
        read_answer(200, answer({"Error": {"Code": "InvalidAction", "Message": "no"}, **request_id}))
    assert (caught.value.code, caught.value.message) == ("InvalidAction", "no")
    assert caught.value.request_id == request_id.get("RequestId", "")


@pytest.mark.parametrize("error", ["boom", [], {}, [{"Code": "x"}], {"Code": 5}, 0, False])
def test_an_error_in_another_form_is_an_error_all_the_same(error):
    with pytest.raises(MpsApiError):
        read_answer(200, answer({"Error": error, "Status": "success", "TaskId": "t"}))


def test_an_answer_of_any_size_makes_an_error_of_a_few_lines():
    for body in (answer({"Error": {"Code": "x" * 10_000, "Message": "y" * 10_000}}), b"z" * (MAX_BYTES + 1)):
        with pytest.raises(MpsApiError) as caught:
            read_answer(200, body)
        assert len(str(caught.value)) < 1000


def test_half_of_a_surrogate_pair_is_replaced_so_that_it_can_be_logged_and_stored():
    assert read_answer(200, rb'{"Response": {"RequestId": "r\udc00"}}') == {"RequestId": "r?"}
