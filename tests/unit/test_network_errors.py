import ssl

import httpx
import pytest
import requests
import urllib3

from airflow_provider_mps.api import submit_call
from airflow_provider_mps.errors import ErrorClass, InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.network_errors import never_sent, to_api_error
from tests.certificates import self_signed
from tests.scripted_server import RESET, ScriptedServer
from tests.tracebacks import printed


def test_an_error_that_no_call_can_raise_is_not_dressed_up_as_one_of_the_api():
    with pytest.raises(ZeroDivisionError):
        to_api_error(ZeroDivisionError("a bug"), "asking")


def test_a_refused_certificate_was_provably_not_sent(connect, tmp_path):
    with ScriptedServer(RESET, tls=self_signed(tmp_path)) as server:
        connect(f"tencent-mps://id:key@localhost:{server.port}/?timeout=20")
        with pytest.raises(MpsApiError, match="certificate verify failed") as caught:
            MpsHook()._call_once(submit_call("hello", "voice"))
    assert caught.value.error_class is ErrorClass.NOT_SENT
    assert server.requests == []


@pytest.mark.parametrize(
    "text", ["WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "SSLV3_ALERT_HANDSHAKE_FAILURE"]
)
def test_any_other_tls_error_may_come_after_the_request_was_sent(text):
    broken = urllib3.exceptions.SSLError(ssl.SSLError(1, text))
    error = requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(None, "/", broken))
    assert not never_sent(error)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL(r"Failed to parse: http://user:SECRET\word@host:1"),
        requests.exceptions.InvalidProxyURL("http://user:SECRET@host"),
        urllib3.exceptions.LocationParseError(r"user:SECRET\word@host:1"),
        httpx.InvalidURL("Invalid port: 'SECRET'"),
        httpx.UnsupportedProtocol("Request URL has an unsupported protocol 'SECRET://'."),
        requests.exceptions.ConnectionError("http://user:SECRET@host:1 is down"),
        httpx.ConnectError("http://user:SECRET@host:1 is down"),
        OSError("http://user:SECRET@host:1 is down"),
        UnicodeEncodeError("ascii", "SECRET", 0, 1, "ordinal not in range"),
    ],
)
def test_no_error_of_a_library_is_quoted_with_a_key_of_its_url(error):
    assert "SECRET" not in str(to_api_error(error, "asking"))
    with pytest.raises((MpsApiError, InvalidMpsConnectionError)) as caught:
        MpsHook()._raise(error, submit_call("hello", "voice"))
    assert "SECRET" not in printed(caught.value)
