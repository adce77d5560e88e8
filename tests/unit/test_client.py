import datetime
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from airflow_provider_mps.client import response_of, to_api_error
from airflow_provider_mps.errors import ErrorClass, MpsApiError, MpsPermanentError
from airflow_provider_mps.hooks.mps import MpsHook


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"Response": None}, {"Response": []}])
def test_an_answer_without_a_response_object_is_an_unknown_outcome(answer):
    with pytest.raises(MpsApiError) as caught:
        response_of(answer)
    assert caught.value.error_class is ErrorClass.OUTCOME_UNKNOWN


def test_an_error_in_the_answer_is_raised_with_its_code_message_and_request_id():
    with pytest.raises(MpsPermanentError) as caught:
        response_of({"Response": {"Error": {"Code": "InvalidAction", "Message": "no"}, "RequestId": "r"}})
    assert (caught.value.code, caught.value.message, caught.value.request_id) == ("InvalidAction", "no", "r")


def test_an_error_object_with_nothing_in_it_is_still_an_error():
    with pytest.raises(MpsApiError):
        response_of({"Response": {"Error": {}}})


def test_an_error_that_no_call_can_raise_is_not_dressed_up_as_one_of_the_api():
    with pytest.raises(ZeroDivisionError):
        to_api_error(ZeroDivisionError("a bug"), "asking")


def test_a_refused_certificate_was_provably_not_sent(tls_server, connect):
    connect(f"tencent-mps://id:key@127.0.0.1:{tls_server}/?timeout=2")
    hook = MpsHook()
    with pytest.raises(MpsApiError) as caught:
        hook._call_once(_submit())
    assert caught.value.error_class is ErrorClass.NOT_SENT
    assert "certificate verify failed" in str(caught.value)


def _submit():
    from airflow_provider_mps.api import submit_call

    return submit_call("hello", "voice")


@pytest.fixture
def tls_server(tmp_path):
    """A server whose certificate nobody signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
