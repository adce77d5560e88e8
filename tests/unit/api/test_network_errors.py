import ssl

import httpx
import pytest
import requests
import urllib3

from airflow_provider_mps.api.actions import make_submit_call
from airflow_provider_mps.api.network_errors import is_never_sent, translate_errors, translate_network_error
from airflow_provider_mps.error_codes import ErrorClass
from airflow_provider_mps.exceptions import InvalidMpsConnectionError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.certificates import make_self_signed_certificate
from tests.scripted_server import RESET, ScriptedServer
from tests.tracebacks import printed


def test_unrelated_error_is_not_translated():
    with pytest.raises(ZeroDivisionError):
        translate_network_error(ZeroDivisionError("a bug"), "querying")


def test_untrusted_certificate_is_not_sent(connect, tmp_path):
    with ScriptedServer(RESET, tls=make_self_signed_certificate(tmp_path)) as server:
        connect(f"tencent-mps://id:key@localhost:{server.port}/?timeout=20")
        with pytest.raises(MpsApiError, match="certificate verify failed") as caught:
            MpsHook().get_conn().execute(make_submit_call("hello", "voice"))
    assert caught.value.error_class is ErrorClass.NOT_SENT
    assert server.requests == []


@pytest.mark.parametrize(
    "text", ["WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "SSLV3_ALERT_HANDSHAKE_FAILURE"]
)
def test_other_tls_errors_may_be_sent(text):
    broken = urllib3.exceptions.SSLError(ssl.SSLError(1, text))
    error = requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(None, "/", broken))
    assert not is_never_sent(error)


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
def test_library_errors_are_quoted_without_secrets(error):
    assert "SECRET" not in str(translate_network_error(error, "querying"))
    with pytest.raises((MpsApiError, InvalidMpsConnectionError)) as caught, translate_errors("submitting"):
        raise error
    assert "SECRET" not in printed(caught.value)
