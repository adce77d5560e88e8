import math
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch.line import LineDefaults, ManifestLine
from airflow_provider_mps.exceptions import InvalidRequestError

MANIFEST = ObjectStoragePath("file:///data/manifest.jsonl")


def line(**fields):
    return ManifestLine.parse(1, {"id": "a", "text": "hello", "voice_id": "v", **fields})


def request(defaults=None, manifest=MANIFEST, **fields):
    return line(**fields).make_request(defaults or LineDefaults(), manifest)


def test_request_has_the_fields_of_the_line():
    made = request(text_lang="en", sample_rate=8000, ext_param={"synExt": {"pitch": 1}}, translate_to="ja")
    assert (made.text, made.voice_id, made.text_lang) == ("hello", "v", "en")
    assert made.ext_param == {
        "synExt": {"pitch": 1, "sampleRate": 8000},
        "transExt": {"transInfo": {"transDst": "ja"}},
    }


def test_line_fields_override_defaults():
    defaults = LineDefaults("w", "ja", {"synExt": {"sampleRate": 8000, "pitch": 3}})
    made = request(defaults, voice_id="", pitch="-1")
    assert (made.voice_id, made.text_lang) == ("w", "ja")
    assert made.ext_param == {"synExt": {"sampleRate": 8000, "pitch": -1}}
    assert request(defaults, voice_id="v", text_lang="en").text_lang == "en"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, ("", "Default")),
        ({"voice_id": "", "voice_name": ""}, ("", "Default")),  # empty CSV cells
        ({"voice_id": "own"}, ("own", None)),
        ({"voice_name": " Own "}, ("", "Own")),
        ({"voice_name": 7}, ("", "7")),
    ],
)
def test_voice_of_line_overrides_either_kind(own, expected):
    made = request(LineDefaults(voice_name="Default"), **{"voice_id": None, **own})
    assert (made.voice_id, made.voice_name) == expected
    made = request(LineDefaults("default"), **{"voice_id": None, **own})
    assert (made.voice_id, made.voice_name) == (("default", None) if expected[1] == "Default" else expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": None}, "text is empty"),
        ({"text_path": "b.txt"}, "text and text_path are both given"),
        ({"voice_id": None}, "voice_id is empty and voice_name is not given"),
        ({"voice_name": "Anna"}, "voice_id and voice_name are both given"),
        ({"voice_id": None, "voice_name": " "}, "voice_name is empty"),
        ({"voice_id": None, "voice_name": ["Anna"]}, "voice_name must be a text, not list"),
        ({"sample_rate": 1}, "sample_rate must be one of"),
        ({"pitch": 1, "ext_param": {"synExt": {"pitch": 1}}}, "pitch is given twice"),
        ({"text": None, "text_path": 3}, "text_path must be a text"),
        ({"text": None, "text_path": "../b.txt"}, "leaves the manifest's folder"),
    ],
)
def test_invalid_line_fields_are_rejected(fields, message):
    with pytest.raises(InvalidRequestError, match=message):
        request(**fields)


def test_max_characters_applies_to_each_line():
    with pytest.raises(InvalidRequestError, match=r"5 characters, more than max_characters \(4\)"):
        request(LineDefaults(max_characters=4))


def test_relative_text_path_is_resolved_beside_the_manifest(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("one")
    manifest = ObjectStoragePath(f"file://{tmp_path}/manifest.jsonl")
    assert request(manifest=manifest, text=None, text_path="texts/one.txt").text == "one"
    assert request(manifest=manifest, text=None, text_path=f"{tmp_path}/texts/one.txt").text == "one"
    assert request(manifest=manifest, text=None, text_path=f"file://{tmp_path}/texts/one.txt").text == "one"


@pytest.mark.parametrize(
    "text_path", ["/etc/hostname", "file:///etc/hostname", "local:///etc/hostname", "data:///etc/hostname"]
)
def test_remote_manifest_must_not_name_a_local_text_path(text_path):
    manifest = ObjectStoragePath("memory://bucket/manifest.jsonl")
    with pytest.raises(InvalidRequestError):
        request(manifest=manifest, text=None, text_path=text_path)


@pytest.mark.parametrize("text_path", ["s3:/bucket/1.txt", "data:,1", "simplecache::1.txt", "no-such-scheme://a/1.txt"])
@pytest.mark.parametrize("manifest", ["memory://bucket/manifest.jsonl", "file:///data/manifest.jsonl"])
def test_invalid_text_path_is_reported(manifest, text_path):
    with pytest.raises(AirflowException, match=re.escape(text_path)):
        request(manifest=ObjectStoragePath(manifest), text=None, text_path=text_path)


@pytest.mark.parametrize("number", [7, "7", " 7 "])
def test_id_as_number_is_accepted(number):
    assert line(id=number).id == "7"


@pytest.mark.parametrize(
    "name",
    ["a/b", "Kapitel 1", "第一章", "a.b", "a\xa0b", "a\u202fb", "می\u200cخواهم", "👩\u200d🚀", "a\xadb", "\U0001fae9"],
)
def test_id_with_folders_or_any_script_is_accepted(name):
    assert line(id=name).id == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            None,
            True,
            math.nan,
            "a\x00b",
            "a\ud800",
            "a\x85b",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/..",
            ".",
            "a\\b",
            "a\nb",
            "a" * 201,
        ),
        *(".mps-batch/lock", "results.jsonl", "results.jsonl/a", "summary.json/a", "/".join(["a" * 200] * 4)),
        # Special syntax of fsspec and universal_pathlib.
        *("part::1", "chapter:/1", "file:/a", "a/s3://b", "data:,a", "a.wav?versionId=7"),
    ],
)
def test_id_that_is_no_file_name_is_rejected(name):
    with pytest.raises(InvalidRequestError, match="id"):
        line(id=name)


def test_unknown_field_is_rejected():
    with pytest.raises(InvalidRequestError, match="the field 'samplerate' is unknown"):
        line(samplerate=8000)


@pytest.mark.parametrize("fields", [[], "text", None, 3])
def test_line_that_is_no_object_is_rejected(fields):
    with pytest.raises(InvalidRequestError, match="must be a JSON object"):
        ManifestLine.parse(1, fields)


def test_repr_of_a_line_hides_its_text():
    assert "SECRET" not in repr(line(text="SECRET"))


@pytest.mark.parametrize(("given", "text"), [(1, "1"), (1.0, "1.0"), (2**70, str(2**70))])
def test_numeric_id_keeps_its_digits(given, text):
    assert line(id=given).id == text
