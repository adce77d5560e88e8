from types import MappingProxyType, SimpleNamespace

import httpx
import pytest
import urllib3

from airflow_provider_mps.api.connection import MpsConnection, parse_conn_id
from airflow_provider_mps.exceptions import InvalidMpsConnectionError
from airflow_provider_mps.hooks.mps import MpsHook
from tests.tracebacks import printed


def parse(extra=MappingProxyType({}), region=None, written=None, **fields):
    empty = dict.fromkeys(("login", "password", "host", "port", "schema"))
    return MpsConnection.parse(SimpleNamespace(conn_id="my_mps", extra=written, **{**empty, **fields}), extra, region)


def test_empty_connection_uses_defaults():
    connection = parse()
    assert (connection.scheme, connection.endpoint) == ("https", "mps.intl.tencentcloudapi.com")
    assert connection.secret_id is None
    assert (connection.timeout, connection.requests_per_second) == (10, 18)


def test_empty_form_fields_are_ignored():
    extra = dict.fromkeys(
        ("region", "token", "role_arn", "role_session_name", "requests_per_second", "timeout", "proxy", "cos_endpoint"),
        "",
    )
    assert parse(extra, login="", password="", host="", schema="", port=None) == parse()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "mps.tencentcloudapi.com"}, ("https", "mps.tencentcloudapi.com")),
        ({"host": "127.0.0.1", "port": 8790, "schema": "http"}, ("http", "127.0.0.1:8790")),
        ({"host": "http://127.0.0.1:8790"}, ("http", "127.0.0.1:8790")),
        ({"host": "https://MPS.tencentcloudapi.com/"}, ("https", "mps.tencentcloudapi.com")),
        ({"host": " mps.tencentcloudapi.com "}, ("https", "mps.tencentcloudapi.com")),
        ({"host": "::1", "port": 8790, "schema": "HTTP"}, ("http", "[::1]:8790")),
        ({"host": "[::1]", "port": 8790}, ("https", "[::1]:8790")),
        ({"host": "https://mps.example", "schema": "https"}, ("https", "mps.example")),
        ({"host": "mps.example:8080", "port": 8080}, ("https", "mps.example:8080")),
    ],
)
def test_host_with_scheme_or_port_is_parsed(fields, expected):
    connection = parse(**fields)
    assert (connection.scheme, connection.endpoint) == expected


@pytest.mark.parametrize(
    ("fields", "extra", "field"),
    [
        ({"login": "id"}, {}, "Password"),
        ({"password": "key"}, {}, "Login"),
        ({}, {"token": "t"}, "Login"),
        ({"login": "id\nid", "password": "SECRET"}, {}, "Login"),
        ({"login": "id", "password": "SECRET\u20ac"}, {}, "Password"),
        ({"login": "id", "password": "SEC RET"}, {}, "Password"),
        ({"login": "id", "password": "key"}, {"token": "SECRET\nline"}, "token"),
        ({}, {"region": "ap\u20ac"}, "Region"),
        ({}, {"region": "SECRETKEY"}, "Region"),
        ({"schema": "SECRETKEY"}, {}, "Schema"),
        ({"schema": 5}, {}, "Schema"),
        ({"host": "mps.com:SECRETKEY"}, {}, "Port"),
        ({"host": "mps.com:SECRETKEY", "port": 443}, {}, "Host"),
        ({"host": "SECRETID:SECRETKEY@mps.com"}, {}, "Port"),
        ({"host": "SECRET" * 6}, {}, "Host"),
        ({"host": "SECRETKEY://mps.com", "schema": "https"}, {}, "Host"),
        ({"host": "SECRETKEY://mps.com"}, {}, "Schema"),
        ({"host": 5}, {}, "Host"),
        ({"port": "SECRETKEY"}, {}, "Port"),
        ({}, {"timeout": "SECRETKEY"}, "timeout"),
        ({"written": "SECRETKEY"}, {}, "Extra"),
        ({"written": '{"token": "SECRETKEY"'}, {}, "Extra"),
        ({}, {"proxy": "http://user:SECRET\\word@proxy:1"}, "proxy"),
        ({}, {"proxy": "http://user:SECRET@word@proxy:1"}, "proxy"),
        ({}, {"proxy": "http://user:SECRET/word@proxy:1"}, "proxy"),
        ({"schema": "ftp"}, {}, "Schema"),
        ({"host": "https://mps.com", "schema": "http"}, {}, "Host"),
        ({"host": "mps.com:80", "port": 443}, {}, "Host"),
        ({"host": "mps.com:\u00b2"}, {}, "Port"),
        ({"host": "mps.com", "port": 99999}, {}, "Port"),
        ({"host": "mps.com", "port": -1}, {}, "Port"),
        ({"host": "[::::::]"}, {}, "Host"),
        ({"host": "a..b"}, {}, "Host"),
        ({"host": "a" * 64}, {}, "Host"),
        ({"host": "mps .com"}, {}, "Host"),
        ({"host": "mps.com/path"}, {}, "Host"),
        ({"host": "user@mps.com"}, {}, "Host"),
        ({}, {"timeout": "abc"}, "timeout"),
        ({}, {"timeout": 0}, "timeout"),
        ({}, {"timeout": True}, "timeout"),
        ({}, {"timeout": "inf"}, "timeout"),
        ({}, {"timeout": [1]}, "timeout"),
        ({}, {"timeout": 10**400}, "timeout"),
        ({}, {"timeout": 1e12}, "timeout"),
        ({}, [1], "Extra"),
        ({}, None, "Extra"),
        ({}, {"proxy": "http://user:SECRET\u20ac@proxy"}, "proxy"),
        ({}, {"proxy": "http://user:SECRET@a..b:1"}, "proxy"),
        ({}, {"requests_per_second": -1}, "requests_per_second"),
        ({}, {"region": 5}, "region"),
        ({}, {"proxy": "proxy:3128"}, "proxy"),
        ({}, {"proxy": "socks5://proxy:1080"}, "proxy"),
        ({}, {"proxy": "http://"}, "proxy"),
        ({}, {"proxy": "http://proxy:notaport"}, "proxy"),
        ({}, {"cos_endpoint": "cos.ap-singapore.myqcloud.com"}, "cos_endpoint"),
        ({}, {"cos_endpoint": "https://cos.ap-singapore.myqcloud.com/folder"}, "cos_endpoint"),
        ({}, {"cos_endpoint": "https://SECID:SECKEY@cos.ap-singapore.myqcloud.com"}, "cos_endpoint"),
        ({}, {"cos_endpoint": "https://cos.ap-singapore.myqcloud.com?x=1"}, "cos_endpoint"),
    ],
)
def test_invalid_field_names_connection_and_field(fields, extra, field):
    with pytest.raises(InvalidMpsConnectionError) as caught:
        parse(extra, **fields)
    assert "'my_mps'" in str(caught.value)
    assert field in str(caught.value)
    assert "SEC" not in str(caught.value)
    assert "SECRET" not in printed(caught.value)


def test_numbers_as_text_are_parsed():
    connection = parse({"timeout": "2.5", "requests_per_second": "5"})
    assert (connection.timeout, connection.requests_per_second) == (2.5, 5)


def test_region_argument_overrides_connection():
    assert parse({"region": "ap-singapore"}).region == "ap-singapore"
    assert parse({"region": "ap-singapore"}, region="eu-frankfurt").region == "eu-frankfurt"


def test_sts_endpoint_is_on_same_site():
    assert parse().sts_endpoint == "sts.intl.tencentcloudapi.com"
    assert parse(host="mps.tencentcloudapi.com").sts_endpoint == "sts.tencentcloudapi.com"
    assert parse(host="127.0.0.1", port=1).sts_endpoint == "127.0.0.1:1"


def test_repr_and_errors_contain_no_secret():
    secrets = {"token": "TOKEN", "proxy": "http://user:PROXYPASSWORD@host:1"}
    assert not {"KEY", "TOKEN", "PROXYPASSWORD"} & set(repr(parse(secrets, login="id", password="KEY")).split("'"))
    with pytest.raises(InvalidMpsConnectionError) as caught:
        parse({"proxy": "ftp://user:PROXYPASSWORD@host"})
    assert "PROXYPASSWORD" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        # How Airflow parses tencent_mps://ID:KEY@host, with and without slashes.
        {"conn_type": "", "schema": "encent_mps//AKIDexample:SECRETKEY@host/"},
        {"conn_type": "", "schema": "encent_mps:AKIDexample:SECRETKEY@host/"},
        {"schema": "encent_MPS//AKIDexample:SECRETKEY@host/"},
        {"conn_type": "", "schema": "ECRETKEY"},
    ],
)
def test_uri_with_underscore_raises_without_value(fields):
    with pytest.raises(InvalidMpsConnectionError, match=r"'my_mps'.*write tencent-mps:// with a hyphen") as caught:
        parse(**fields)
    assert "ECRET" not in printed(caught.value)


@pytest.mark.parametrize("written", [None, "", " ", "{}"])
def test_empty_extra_is_accepted(written):
    assert parse(written=written) == parse()


def test_proxy_with_special_characters_is_accepted():
    proxy = "http://us%40er:pa%5Css!$&'()*+,;=~._-@[::1]:3128"
    assert parse({"proxy": proxy}).proxy == proxy
    assert httpx.Proxy(proxy).auth == ("us@er", "pa\\ss!$&'()*+,;=~._-")
    assert urllib3.util.parse_url(proxy).port == 3128


def test_repr_omits_fields_that_may_hold_key():
    fields = {"login": "SECRETID", "password": "SECRETKEY", "host": "SECRETHOST"}
    assert "SECRET" not in repr(parse({"role_arn": "SECRET", "role_session_name": "SECRET"}, **fields)).upper()


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"host": "mps.example"}, "mps.example"),
        ({"host": "127.0.0.1", "port": 1}, "127.0.0.1:1"),
        ({"host": "::1"}, "[::1]"),
        ({"host": "localhost", "port": 1}, "localhost:1"),
        ({"host": "secretkey"}, "its host"),
    ],
)
def test_endpoint_for_messages_hides_possible_key(fields, shown):
    assert parse(**fields).endpoint_for_messages == shown


@pytest.mark.parametrize("given", [None, "", " ", "None"])
def test_conn_id_empty_returns_default(given):
    assert parse_conn_id(given) == MpsHook(given).mps_conn_id == "mps_default"


@pytest.mark.parametrize("given", ["my_mps", "team/my-mps.1", "5"])
def test_conn_id_valid_is_unchanged(given):
    assert parse_conn_id(given) == given


@pytest.mark.parametrize(
    "given", ["tencent-mps://ID:SECRET@host", "tencent-mps://host", "ID:SECRET@host", {"conn": "SECRET"}, "a b", "a\nb"]
)
def test_conn_id_invalid_raises_without_value(given):
    with pytest.raises(InvalidMpsConnectionError, match="mps_conn_id is not a connection id") as caught:
        MpsHook(given)
    assert "SECRET" not in str(caught.value)
