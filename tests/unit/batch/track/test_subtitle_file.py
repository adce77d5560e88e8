import json

import pysubs2
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.track.subtitle_file import (
    Subtitle,
    find_encoding,
    find_manifest,
    format_subtitles,
    read_texts,
    store_subtitles,
)
from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.speech.request import hash_text
from airflow_provider_mps.storage.if_exists import IfExists


def write(subtitles, suffix):
    return b"".join(format_subtitles(subtitles, suffix)).decode()


def test_srt_has_times_and_text():
    assert write([Subtitle(0.0, 1.2345, "One."), Subtitle(61.5, 3600.0, "Two,\nlines.")], ".srt") == (
        "1\n00:00:00,000 --> 00:00:01,234\nOne.\n\n2\n00:01:01,500 --> 01:00:00,000\nTwo,\nlines.\n\n"
    )


def test_vtt_escapes_text():
    text = write([Subtitle(0.0, 1.0, "a < b && c --> d")], ".vtt")
    assert text.startswith("WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.000\n")
    assert text.endswith("\na &lt; b &amp;&amp; c --&gt; d\n\n")


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_hours_over_99_are_right(suffix):
    assert "120:00:01" in write([Subtitle(432_001.0, 432_002.0, "Late.")], suffix)


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
@pytest.mark.parametrize("text", ["a\n\n\nb", "\n\ra\x0b\x0c  \nb\n"])
def test_empty_lines_do_not_end_cue(suffix, text):
    parsed = pysubs2.SSAFile.from_string(write([Subtitle(0, 1, text), Subtitle(1, 2, "c")], suffix))
    assert [event.plaintext for event in parsed] == ["a\nb", "c"]


def test_arrow_in_srt_text_is_no_timing_line():
    assert "00:00:00,000 -> 00:00:01,000" in write([Subtitle(0, 1, "00:00:00,000 --> 00:00:01,000")], ".srt")


def test_cue_lasts_at_least_a_millisecond():
    assert "00:00:01,000 --> 00:00:01,001" in write([Subtitle(1.0, 1.00001, "x")], ".srt")


def test_existing_subtitles_are_kept_and_error_says_track_is_stored(tmp_path):
    (tmp_path / "track.srt").write_text("older")
    with pytest.raises(DestinationError, match=r"^The track was stored, but its subtitles were not: .* exists already"):
        store_subtitles(ObjectStoragePath(f"file://{tmp_path}/track.srt"), [], {}, IfExists.FAIL)
    assert (tmp_path / "track.srt").read_text() == "older"


@pytest.fixture
def manifest(tmp_path):
    lines = [{"id": "a", "text": "Hello"}, {"id": "b", "text_path": "b.txt"}, {"id": "c", "text": 42}]
    (tmp_path / "b.txt").write_text("From a file")
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "not a line\n")
    return ObjectStoragePath(f"file://{tmp_path}/manifest.jsonl")


def row(line_id, text, **fields):
    return Row(line_id, 1, LineStatus.STORED, **{"text_hash": hash_text(text), **fields})


def test_texts_are_read_from_manifest(manifest):
    texts = read_texts(manifest, [row("a", "Hello"), row("b", "From a file"), row("c", "42")])
    assert texts == {"a": "Hello", "b": "From a file", "c": "42"}


def test_changed_text_is_rejected(manifest):
    with pytest.raises(AirflowFailException, match=r"The text of line a .* the manifest has changed since the batch"):
        read_texts(manifest, [row("a", "Hallo")])


def test_row_without_digest_compares_characters(manifest):
    assert read_texts(manifest, [row("a", "", text_hash=None, characters=5)]) == {"a": "Hello"}
    with pytest.raises(AirflowFailException, match="changed since"):
        read_texts(manifest, [row("a", "", text_hash=None, characters=6)])


def test_line_that_manifest_lacks_is_named(manifest):
    with pytest.raises(AirflowFailException, match=r"1 lines of the batch are not in .*, e\.g\. z"):
        read_texts(manifest, [row("a", "Hello"), row("z", "")])


def test_encoding_of_the_batch_is_used_for_its_manifest():
    manifest = ObjectStoragePath("s3://bucket/film.srt")
    summary = {"manifest": str(manifest), "subtitle_encoding": "gb18030"}
    other = ObjectStoragePath("s3://bucket/other.srt")
    assert find_encoding(None, manifest, summary) == "gb18030"
    assert find_encoding("big5", manifest, summary) == "big5"
    assert find_encoding(None, other, summary) is None
    assert find_encoding("big5", other, summary) == "big5"
    assert find_encoding(None, manifest, {"manifest": str(manifest)}) is None
    assert find_encoding(None, manifest, {**summary, "subtitle_encoding": "klingon"}) is None


def test_manifest_of_batch_is_found():
    given = ObjectStoragePath("s3://bucket/other.jsonl")
    assert find_manifest(given, {"manifest": "s3://bucket/manifest.jsonl"}) == given
    assert str(find_manifest(None, {"manifest": "s3://bucket/manifest.jsonl"})) == "s3://bucket/manifest.jsonl"
    with pytest.raises(InvalidRequestError, match=r"names no manifest"):
        find_manifest(None, {})
