import httpx
import pytest
import requests
import urllib3

from airflow_provider_mps import redaction


@pytest.fixture
def masked(monkeypatch):
    masked = []
    monkeypatch.setattr(redaction, "mask_secret", masked.append)
    return masked


def test_mask_signed_url_masks_query(masked):
    redaction.mask_signed_url("https://cos.example/audio.wav?expires=1&sign=abc")
    assert masked == ["expires=1&sign=abc"]


@pytest.mark.parametrize("url", [None, "", "https://cos.example/audio.wav", "https://cos.example/audio.wav?"])
def test_mask_signed_url_without_query_masks_nothing(masked, url):
    redaction.mask_signed_url(url)
    assert masked == []


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (r"Failed to parse: http://user:pass\word@host:1", "Failed to parse: http://***@host:1"),
        ("http://user:pa ss@host:1/x", "http://***@host:1/x"),
        ("http://user:pa/ss@host:1", "http://***@host:1"),
        ("http://user:pa?ss@host", "http://***@host"),
        ("http://user:12345@host/", "http://***@host/"),
        ("http://user:pass", "http://***"),
        ("https://TOKEN@host/", "https://***@host/"),
        ("Failed to parse: user:pass@host", "Failed to parse: ***@host"),
        ("404, url='https://h.example/a.wav?sign=abc&x=1'", "404, url='https://h.example/a.wav?***'"),
        ("with url: /a?sign=abc (Caused by X)", "with url: /a?*** (Caused by X)"),
        ("https://b.s3.example/a.wav%3FX-Amz-Signature%3Dabc", "https://b.s3.example/a.wav?***"),
        ('{"X-Tc-Token": "abc", "Signature": "def"}', '{"X-Tc-Token": "***", "Signature": "***"}'),
        ("Credential=AKID/d, Signature=abc", "Credential=***, Signature=***"),
        ("Port could not be cast to integer value as 'key'", "Port could not be cast to integer value as ***"),
        ("HTTPConnectionPool(host='key', port=1)", "HTTPConnectionPool(host='***', port=1)"),
        ("Proxy-Authorization: Basic dXNlcjpw=\nHost: h", "Proxy-Authorization: ***\nHost: h"),
        ("authorization: Bearer a.b.c", "authorization: ***"),
        ("Cookie: s=1; t=2", "Cookie: ***"),
        ("password: hunter2", "password: ***"),
        ("SecretKey: abc", "SecretKey: ***"),
        ("aws_secret_access_key=abc", "aws_secret_access_key=***"),
        (r"{\"Token\": \"abc\"}", r"{\"Token\": \"***\"}"),
    ],
)
def test_redact_removes_secrets(text, redacted):
    assert redaction.redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "s3://conn@bucket/a@b.wav",
        "https://h:443/a@b",
        "http://[::1]:80/ (x)",
        "What? x=1",
        "ExpiredToken: The provided token has expired",
        "SignatureDoesNotMatch: The request signature we calculated",
        "[Errno 2] No such file or directory: '/data/what?.txt'",
        "HTTPSConnectionPool(host='mps.example', port=443)",
    ],
)
def test_redact_keeps_text_without_secrets(text):
    assert redaction.redact(text) == text


def test_describe_error_has_type_and_innermost_message():
    pool = urllib3.HTTPConnectionPool("proxy.example", 1)
    refused = urllib3.exceptions.NewConnectionError(pool, "[Errno 111] Connection refused")
    proxy = urllib3.exceptions.ProxyError("Unable to connect to proxy", refused)
    error = requests.exceptions.ProxyError(urllib3.exceptions.MaxRetryError(pool, "/?sign=abc", proxy))
    assert redaction.describe_error(error) == "ProxyError: [Errno 111] Connection refused"
    assert redaction.describe_error(OSError()) == "OSError"


@pytest.mark.parametrize("kind", [httpx.InvalidURL, urllib3.exceptions.LocationParseError, httpx.LocalProtocolError])
def test_describe_error_repeating_its_input_is_type_only(kind):
    error = kind("pass")
    assert redaction.describe_error(error) == kind.__name__
    assert redaction.get_safe_cause(error) is None


def test_get_safe_cause_with_secret_in_chain_is_none():
    harmless, inner = ValueError("a"), ValueError("https://user:pass@host")
    assert redaction.get_safe_cause(harmless) is harmless
    for attribute in ("__cause__", "__context__"):
        outer = ValueError("b")
        setattr(outer, attribute, inner)
        assert redaction.get_safe_cause(outer) is None
    outer.__suppress_context__ = True
    assert redaction.get_safe_cause(outer) is outer
    harmless.add_note("https://host/?sign=abc")
    assert redaction.get_safe_cause(harmless) is None


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("a word", "'a word'"),
        ("https://host/a?sign=abc", "'https://host/a?***'"),
        ({"sign": "abc"}, "a value of type dict"),
        ("{'sign': 'abc'}", "a text that begins with '{'"),
        (5, "5"),
        (True, "True"),
        (10**200, "a number of many digits"),
    ],
)
def test_quote_value_hides_secrets(value, quoted):
    assert redaction.quote_value(value) == quoted


@pytest.mark.parametrize("text", ["\u4e2d" * 100_000, "a" * 100_000, "token" * 50_000, "%3F" * 50_000, "a:b" * 50_000])
def test_redact_cuts_long_text_first(text):
    assert len(redaction.redact(text)) <= 2 * redaction._MAX_SEARCHED_CHARACTERS


def test_format_path_without_scheme_hides_password():
    assert redaction.format_path("//user:SECRET@host/path") == "//***@host/path"
