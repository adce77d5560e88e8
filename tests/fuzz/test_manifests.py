"""Manifests with any content."""

import json

from airflow.providers.common.compat.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.batch.line import InvalidLine, LineDefaults, ManifestLine
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.speech.ext_param import SpeechOptions
from tests.fuzz.conftest import FUZZ

cells = st.text(max_size=20) | st.sampled_from(
    ["", "a", "../a", '"', '""', "a,b", "\r", "\n", "\x00", "1e999", "é", "é"]
)
values = cells | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(cells, max_size=2)
names = st.sampled_from(
    ["id", "text", "text_path", "voice_id", "text_lang", "pitch", "sample_rate", "ext_param", "other"]
)
lines = st.dictionaries(names, values, max_size=5)
json_lines = st.lists(lines | values, max_size=6).map(lambda all_: "\n".join(map(json.dumps, all_)).encode())
csv = st.lists(st.lists(cells, max_size=4), max_size=6).map(
    lambda rows: ("id,text,voice_id\n" + "\n".join(",".join(row) for row in rows)).encode("utf-8", "surrogatepass")
)


def read(folder, name, content):
    (folder / name).write_bytes(content)
    try:
        return list(read_manifest(ObjectStoragePath(f"file://{folder}/{name}")))
    except InvalidRequestError as error:
        assert name in str(error)  # noqa: PT017 - only some contents raise it
        return None


@FUZZ
@given(
    content=st.binary(max_size=300) | json_lines | csv,
    name=st.sampled_from(["m.jsonl", "m.csv", "m"]),
    noise=st.binary(max_size=5),
    position=st.integers(0, 300),
)
def test_manifest_lines_are_read_or_broken_once(tmp_path, content, name, noise, position):
    for manifest in (content, content[:position] + noise + content[position:]):
        found = read(tmp_path, name, manifest)
        if found is None:
            continue
        numbers = [line.number for line in found]
        assert numbers == sorted(set(numbers))
        assert all(number >= 1 for number in numbers)
        for line in found:
            assert isinstance(line, ManifestLine | InvalidLine)
            if isinstance(line, InvalidLine):
                assert len(line.error) < 500


@FUZZ
@given(fields=lines)
def test_parsed_line_can_be_submitted_or_raises(tmp_path, fields):
    manifest = ObjectStoragePath(f"file://{tmp_path}/m.jsonl")
    try:
        line = ManifestLine.parse(1, fields)
        request = line.make_request(LineDefaults(voice_id="v", ext_param=SpeechOptions().build()), manifest)
    except InvalidRequestError:
        return
    assert ".." not in line.id.split("/")
    assert not line.id.startswith("/")
    json.dumps(request.ext_param, allow_nan=False)
    request.text.encode()


@FUZZ
@given(garbage=st.binary(max_size=100).filter(lambda raw: b"\n" not in raw and b"\r" not in raw))
def test_valid_line_is_read_after_any_bytes(tmp_path, garbage):
    good = b'{"id": "good", "text": "one", "voice_id": "v"}'
    found = read(tmp_path, "m.jsonl", good.replace(b"good", b"first") + b"\n" + garbage + b"\n" + good)
    assert found is not None
    assert [line.id for line in (found[0], found[-1])] == ["first", "good"]
