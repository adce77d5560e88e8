"""A key in any connection field, or a signed URL as any argument, is never printed."""

import asyncio
import json
import logging
import socket
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mps.api.actions import make_describe_call
from airflow_provider_mps.batch.line import LineDefaults, ManifestLine
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.operators.batch import _parse_path
from airflow_provider_mps.polling.intervals import PollInterval
from airflow_provider_mps.redaction import describe_error, get_safe_cause, redact
from airflow_provider_mps.speech.ext_param import SpeechOptions
from airflow_provider_mps.speech.parsing import parse_choice
from airflow_provider_mps.speech.request import parse_max_characters
from airflow_provider_mps.storage.deadline import parse_timeout
from airflow_provider_mps.storage.destination import get_existing_size, parse_destination, resolve_destination
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.text_file import read_text
from tests.fuzz.conftest import FUZZ
from tests.tracebacks import printed

FEW = settings(FUZZ, max_examples=FUZZ.max_examples // 32)
"""For tests that create clients and open sockets."""
PARTS = ("Kq7ZrTw0pXaB", "Vn3LmYc8sDeF")
"""Neither part of a key may be printed, even if a library splits the key at a special character."""
keys = st.text("/+=\\^|:@?#%& '\"<>{}[]é\n", max_size=3).map(PARTS[0].__add__).map(lambda key: key + PARTS[1])
signatures = st.text("/+=%&@:~.", max_size=3).map(PARTS[0].__add__).map(lambda key: key + PARTS[1])
"""Keys with characters that URLs may contain."""
FIELDS = ("login", "password", "host", "schema", "port", "conn_type", "description")
EXTRAS = ("region", "token", "role_arn", "role_session_name", "requests_per_second", "timeout", "proxy", "cos_endpoint")
SHAPES = (
    "KEY",
    "http://KEY",
    "https://KEY.example",
    "http://user:KEY@127.0.0.1:1",
    "http://KEY:password@127.0.0.1:1",
    "user:KEY@127.0.0.1:1",
    "127.0.0.1:KEY",
    "http://127.0.0.1:1/KEY",
    "http://127.0.0.1:1/?token=KEY",
    "ftp://user:KEY@127.0.0.1",
    '{"secret": "KEY"}',
)
URIS = (
    "tencent_mps://AKIDexample:KEY@127.0.0.1:1/http?region=ap-singapore",
    "tencent_mps:AKIDexample:KEY@127.0.0.1:1",
    "tencent-mps:/AKIDexample:KEY@127.0.0.1:1/http",
    "tencent-mps://AKIDexample:KEY@127.0.0.1:1/http",
    "tencent-mps://AKIDexample:KEY",
    "tencent-mps://KEY@127.0.0.1:1/http",
    "tencent-mps://AKIDexample:KEY127.0.0.1:1/http",
    "tencent-mps://AKIDexample@127.0.0.1:KEY/http",
    "tencent-mps://http://AKIDexample:KEY@127.0.0.1:1",
    "tencent-mps://127.0.0.1:1/http?KEY=1",
    "Tencent_MPS://AKIDexample:KEY@http://127.0.0.1:1",
    "AKIDexample:KEY@127.0.0.1",
    "KEY",
)
URLS = (
    "https://clips.cos.example/audio.wav?q-signature=KEY",
    "https://user:KEY@clips.cos.example/audio.wav",
    "nowhere://user:KEY@bucket/audio.wav?X-Amz-Signature=KEY",
    "clips.cos.example/audio.wav?q-signature=KEY",
    "/audio/?q-signature=KEY",
    "nowhere://bucket/audio.wav?sign=KEY",
    "{'TaskId': '1', 'AudioUrl': 'https://clips.cos.example/audio.wav?q-signature=KEY'}",
)


@pytest.fixture(autouse=True)
def block_dns(monkeypatch):
    """Resolve no names: a key may have been pasted into Host."""
    original = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        if host not in {"127.0.0.1", b"127.0.0.1", "localhost"}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return original(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(autouse=True)
def disable_masking(monkeypatch):
    """Do not rely on Airflow's masking, which also gets slower with each secret."""
    for newer, older in (
        ("airflow.sdk._shared", "airflow.sdk.execution_time"),
        ("airflow._shared", "airflow.utils.log"),
    ):
        name = next((name for name in (newer, older) if find_spec(name) and find_spec(f"{name}.secrets_masker")), None)
        if name:
            masker = import_module(f"{name}.secrets_masker").SecretsMasker
            monkeypatch.setattr(masker, "add_mask", lambda *_, **__: None)


@pytest.fixture
def assert_no_secret(caplog, capsys):
    """Return a context manager that fails if a part of a key is printed, logged or in an error or its causes."""
    caplog.set_level(logging.INFO)

    @contextmanager
    def block():
        caplog.clear()
        capsys.readouterr()
        output = []
        try:
            yield output
        except Exception as error:  # noqa: BLE001 - Airflow prints any error
            output += [str(error), printed(error)]
        everything = "\n".join([*map(str, output), caplog.text, *capsys.readouterr()]).lower()
        for part in PARTS:
            assert part.lower() not in everything

    return block


def look_up_connection(hook, block):
    """Get a connection in each way."""
    with block():
        hook().get_mps_connection()
    with block():
        asyncio.run(hook().aget_mps_connection())
    with block() as output:
        output.append(repr(hook().get_mps_connection()))


def call_mps(hook, block):
    """Call MPS at an address without a server."""
    with block() as output:
        output.append(hook().test_connection())
    with block():
        hook().get_conn().execute(make_describe_call("1-DubbingAsync-2"))
    with block():
        asyncio.run(hook().acall_once(make_describe_call("1-DubbingAsync-2")))


@st.composite
def connections(draw):
    """Generate the JSON of a connection with a key in one field."""
    field = draw(st.sampled_from([*FIELDS, *EXTRAS, "extra", "a key of extra"]))
    value = draw(st.sampled_from(SHAPES)).replace("KEY", draw(keys))
    fields = {"conn_type": "tencent_mps", "login": "AKIDexample", "password": "key", "host": "127.0.0.1", "port": 1}
    extra = {"timeout": 1, value: "a"} if field == "a key of extra" else {"timeout": 1}
    (fields if field in FIELDS else extra)[field] = value
    return json.dumps({"schema": "http", **fields, "extra": value if field == "extra" else extra})


uris = st.builds(lambda uri, key: uri.replace("KEY", key).replace("\n", ""), st.sampled_from(URIS), keys)


@FUZZ
@given(connection=connections() | uris)
def test_key_in_connection_field_is_not_printed_by_lookup(connection, connect, assert_no_secret):
    connect(connection)
    look_up_connection(MpsHook, assert_no_secret)


@FEW
@given(connection=connections() | uris)
def test_key_in_connection_field_is_not_printed_by_call(connection, connect, assert_no_secret):
    connect(connection)
    call_mps(MpsHook, assert_no_secret)


@FEW
@given(uri=uris.filter(lambda uri: "://" in uri))
def test_uri_as_connection_id_is_not_printed(uri, assert_no_secret):
    look_up_connection(lambda: MpsHook(uri), assert_no_secret)


@FUZZ
@given(key=signatures, url=st.sampled_from(URLS), as_dict=st.booleans())
def test_signed_url_as_argument_is_not_printed(key, url, as_dict, tmp_path, assert_no_secret):
    value = url.replace("KEY", key)
    value = {"AudioUrl": value} if as_dict else value
    manifest = resolve_destination(f"file://{tmp_path}/manifest.jsonl", "")
    for use in (
        lambda: make_describe_call(value),
        lambda: read_text(value),
        lambda: get_existing_size(resolve_destination(parse_destination(value), value)),
        lambda: _parse_path("manifest", value),
        lambda: parse_choice(IfExists, value),
        lambda: SpeechOptions(ext_param=value).build(),
        lambda: SpeechOptions(sample_rate=value).build(),
        lambda: SpeechOptions(ext_param={"synExt": {"pitch": value}}).build(),
        lambda: parse_max_characters(value),
        lambda: parse_timeout(value),
        lambda: PollInterval(value),
        lambda: ManifestLine.parse(1, {"id": value}),
        lambda: ManifestLine.parse(1, {"id": "a", "text_path": value}).make_request(LineDefaults("v"), manifest),
        lambda: MpsHook(value),
    ):
        with assert_no_secret():
            use()


@FUZZ
@given(key=signatures, url=st.sampled_from(URLS[:3]), words=st.text(max_size=10))
def test_library_error_is_quoted_without_url_secrets(key, url, words):
    error = OSError(f"{words} {url.replace('{}', key)} {words}")
    for part in PARTS:
        assert part not in describe_error(error)
        assert part not in redact(str(error))
    assert get_safe_cause(error) is None
