"""A key in whichever field it was pasted into, or a signed URL as whichever argument, is in nothing that is printed."""

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

from airflow_provider_mps.api import describe_call
from airflow_provider_mps.batch.line import Defaults, ManifestLine
from airflow_provider_mps.choice import IfExists
from airflow_provider_mps.destination import existing_size, require_destination, resolve_destination
from airflow_provider_mps.ext_param import SpeechOptions
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.operators.batch import _path
from airflow_provider_mps.redaction import cause_of, describe_error, redact
from airflow_provider_mps.speech_request import require_limit
from airflow_provider_mps.text_file import read_text
from airflow_provider_mps.transfer.deadline import require_timeout
from tests.fuzz.conftest import FUZZ
from tests.tracebacks import printed

FEW = settings(FUZZ, max_examples=FUZZ.max_examples // 32)
"""For what makes clients and opens sockets."""
PARTS = ("Kq7ZrTw0pXaB", "Vn3LmYc8sDeF")
"""No part of a key may be printed, however its characters make libraries cut it."""
keys = st.text("/+=\\^|:@?#%& '\"<>{}[]é\n", max_size=3).map(PARTS[0].__add__).map(lambda key: key + PARTS[1])
signatures = st.text("/+=%&@:~.", max_size=3).map(PARTS[0].__add__).map(lambda key: key + PARTS[1])
"""Of characters that URLs have."""
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
def no_names_are_looked_up(monkeypatch):
    """A key that was pasted into Host leads nowhere."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        if host not in {"127.0.0.1", b"127.0.0.1", "localhost"}:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(autouse=True)
def airflow_masks_nothing(monkeypatch):
    """Nothing may depend on what Airflow masks by itself, which also gets slower with each secret."""
    for newer, older in (
        ("airflow.sdk._shared", "airflow.sdk.execution_time"),
        ("airflow._shared", "airflow.utils.log"),
    ):
        name = next((name for name in (newer, older) if find_spec(name) and find_spec(f"{name}.secrets_masker")), None)
        if name:
            masker = import_module(f"{name}.secrets_masker").SecretsMasker
            monkeypatch.setattr(masker, "add_mask", lambda *_, **__: None)


@pytest.fixture
def nothing_is_printed(caplog, capsys):
    """Return a ``with`` block in which no part of a key may be printed, also not by an error and its causes."""
    caplog.set_level(logging.INFO)

    @contextmanager
    def block():
        caplog.clear()
        capsys.readouterr()
        said = []
        try:
            yield said
        except Exception as error:  # noqa: BLE001 - whatever it is, Airflow prints it
            said += [str(error), printed(error)]
        everything = "\n".join([*map(str, said), caplog.text, *capsys.readouterr()]).lower()
        for part in PARTS:
            assert part.lower() not in everything

    return block


def every_look_up(hook, block):
    """Look a connection up in each way."""
    with block():
        hook().look_up()
    with block():
        asyncio.run(hook()._alook_up())
    with block() as said:
        said.append(repr(hook().look_up()))


def every_call(hook, block):
    """Call MPS, where nothing answers."""
    with block() as said:
        said.append(hook().test_connection())
    with block():
        hook()._call_once(describe_call("1-DubbingAsync-2"))
    with block():
        asyncio.run(hook().acall_once(describe_call("1-DubbingAsync-2")))


@st.composite
def connections(draw):
    """Return the JSON of a connection that has a key in one of its fields."""
    field = draw(st.sampled_from([*FIELDS, *EXTRAS, "extra", "a key of extra"]))
    value = draw(st.sampled_from(SHAPES)).replace("KEY", draw(keys))
    fields = {"conn_type": "tencent_mps", "login": "AKIDexample", "password": "key", "host": "127.0.0.1", "port": 1}
    extra = {"timeout": 1, value: "a"} if field == "a key of extra" else {"timeout": 1}
    (fields if field in FIELDS else extra)[field] = value
    return json.dumps({"schema": "http", **fields, "extra": value if field == "extra" else extra})


uris = st.builds(lambda uri, key: uri.replace("KEY", key).replace("\n", ""), st.sampled_from(URIS), keys)


@FUZZ
@given(connection=connections() | uris)
def test_a_key_in_any_field_of_a_connection_is_not_printed(connection, connect, nothing_is_printed):
    connect(connection)
    every_look_up(MpsHook, nothing_is_printed)


@FEW
@given(connection=connections() | uris)
def test_a_key_in_any_field_of_a_connection_is_not_printed_by_a_call(connection, connect, nothing_is_printed):
    connect(connection)
    every_call(MpsHook, nothing_is_printed)


@FEW
@given(uri=uris.filter(lambda uri: "://" in uri))
def test_a_uri_in_place_of_a_connections_id_is_not_printed(uri, nothing_is_printed):
    every_look_up(lambda: MpsHook(uri), nothing_is_printed)


@FUZZ
@given(key=signatures, url=st.sampled_from(URLS), as_dict=st.booleans())
def test_a_signed_url_as_any_argument_is_not_printed(key, url, as_dict, tmp_path, nothing_is_printed):
    value = url.replace("KEY", key)
    value = {"AudioUrl": value} if as_dict else value
    manifest = resolve_destination(f"file://{tmp_path}/manifest.jsonl", "")
    for use in (
        lambda: describe_call(value),
        lambda: read_text(value),
        lambda: existing_size(resolve_destination(require_destination(value), value)),
        lambda: _path("manifest", value),
        lambda: IfExists.parse(value),
        lambda: SpeechOptions(ext_param=value).build(),
        lambda: SpeechOptions(sample_rate=value).build(),
        lambda: SpeechOptions(ext_param={"synExt": {"pitch": value}}).build(),
        lambda: require_limit(value),
        lambda: require_timeout(value),
        lambda: PollInterval(value),
        lambda: ManifestLine.parse(1, {"id": value}),
        lambda: ManifestLine.parse(1, {"id": "a", "text_path": value}).request(Defaults("v"), manifest),
        lambda: MpsHook(value),
    ):
        with nothing_is_printed():
            use()


@FUZZ
@given(key=signatures, url=st.sampled_from(URLS[:3]), words=st.text(max_size=10))
def test_an_error_of_a_library_is_quoted_without_what_its_url_holds(key, url, words):
    error = OSError(f"{words} {url.replace('{}', key)} {words}")
    for part in PARTS:
        assert part not in describe_error(error)
        assert part not in redact(str(error))
    assert cause_of(error) is None
