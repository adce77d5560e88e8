import math
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_mps.batch.line import Defaults, ManifestLine
from airflow_provider_mps.errors import InvalidRequestError

HERE = ObjectStoragePath("file:///data/manifest.jsonl")


def line(**fields):
    return ManifestLine.parse(1, {"id": "a", "text": "hello", "voice_id": "v", **fields})


def request(defaults=None, manifest=HERE, **fields):
    return line(**fields).request(defaults or Defaults(), manifest)


def test_a_line_asks_for_what_it_says():
    asked = request(text_lang="en", sample_rate=8000, ext_param={"synExt": {"pitch": 1}}, translate_to="ja")
    assert (asked.text, asked.voice_id, asked.text_lang) == ("hello", "v", "en")
    assert asked.ext_param == {
        "synExt": {"pitch": 1, "sampleRate": 8000},
        "transExt": {"transInfo": {"transDst": "ja"}},
    }


def test_what_it_does_not_say_is_the_default_and_what_it_says_goes_before():
    defaults = Defaults("w", "ja", {"synExt": {"sampleRate": 8000, "pitch": 3}})
    asked = request(defaults, voice_id="", pitch="-1")
    assert (asked.voice_id, asked.text_lang) == ("w", "ja")
    assert asked.ext_param == {"synExt": {"sampleRate": 8000, "pitch": -1}}
    assert request(defaults, voice_id="v", text_lang="en").text_lang == "en"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": None}, "text is empty"),
        ({"text_path": "b.txt"}, "text and text_path are both given"),
        ({"voice_id": None}, "voice_id is empty"),
        ({"sample_rate": 1}, "sample_rate must be one of"),
        ({"pitch": 1, "ext_param": {"synExt": {"pitch": 1}}}, "pitch is given twice"),
        ({"text": None, "text_path": 3}, "text_path must be a text"),
        ({"text": None, "text_path": "../b.txt"}, "leaves the manifest's folder"),
    ],
)
def test_what_cannot_be_submitted_is_refused(fields, said):
    with pytest.raises(InvalidRequestError, match=said):
        request(**fields)


def test_a_limit_counts_for_each_line():
    with pytest.raises(InvalidRequestError, match="5 characters, more than the 4"):
        request(Defaults(max_characters=4))


def test_a_relative_text_path_is_beside_the_manifest(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("one")
    manifest = ObjectStoragePath(f"file://{tmp_path}/manifest.jsonl")
    assert request(manifest=manifest, text=None, text_path="texts/one.txt").text == "one"
    assert request(manifest=manifest, text=None, text_path=f"{tmp_path}/texts/one.txt").text == "one"
    assert request(manifest=manifest, text=None, text_path=f"file://{tmp_path}/texts/one.txt").text == "one"


@pytest.mark.parametrize(
    "text_path", ["/etc/hostname", "file:///etc/hostname", "local:///etc/hostname", "data:///etc/hostname"]
)
def test_a_manifest_in_object_storage_may_not_name_a_file_of_the_worker(text_path):
    manifest = ObjectStoragePath("memory://bucket/manifest.jsonl")
    with pytest.raises(InvalidRequestError):
        request(manifest=manifest, text=None, text_path=text_path)


@pytest.mark.parametrize("text_path", ["s3:/bucket/1.txt", "data:,1", "simplecache::1.txt", "no-such-scheme://a/1.txt"])
@pytest.mark.parametrize("manifest", ["memory://bucket/manifest.jsonl", "file:///data/manifest.jsonl"])
def test_a_text_path_that_is_none_is_told_for_its_line(manifest, text_path):
    with pytest.raises(AirflowException, match=re.escape(text_path)):
        request(manifest=ObjectStoragePath(manifest), text=None, text_path=text_path)


@pytest.mark.parametrize("number", [7, "7", " 7 "])
def test_an_id_may_be_a_number(number):
    assert line(id=number).id == "7"


@pytest.mark.parametrize(
    "name",
    ["a/b", "Kapitel 1", "第一章", "a.b", "a\xa0b", "a\u202fb", "می\u200cخواهم", "👩\u200d🚀", "a\xadb", "\U0001fae9"],
)
def test_an_id_may_hold_folders_and_any_script(name):
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
        # What libraries of paths take for more than a name.
        *("part::1", "chapter:/1", "file:/a", "a/s3://b", "data:,a", "a.wav?versionId=7"),
    ],
)
def test_an_id_must_be_able_to_name_a_file(name):
    with pytest.raises(InvalidRequestError, match="id"):
        line(id=name)


def test_a_field_that_is_not_known_is_refused_before_it_is_paid_for():
    with pytest.raises(InvalidRequestError, match="the field 'samplerate' is unknown"):
        line(samplerate=8000)


@pytest.mark.parametrize("fields", [[], "text", None, 3])
def test_a_line_is_an_object(fields):
    with pytest.raises(InvalidRequestError, match="must be a JSON object"):
        ManifestLine.parse(1, fields)


def test_its_text_is_in_no_repr():
    assert "SECRET" not in repr(line(text="SECRET"))


@pytest.mark.parametrize(("given", "text"), [(1, "1"), (1.0, "1.0"), (2**70, str(2**70))])
def test_a_number_is_taken_for_the_text_that_it_is(given, text):
    assert line(id=given).id == text
