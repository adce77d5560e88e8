"""Generated and mangled subtitle files."""

from __future__ import annotations

import re

import pysubs2
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mps.batch.line import InvalidLine, ManifestLine
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.exceptions import InvalidRequestError
from tests.fuzz.conftest import FUZZ

pytestmark = pytest.mark.slow

TIMING = re.compile(r"\d+:\d\d[.:,]\d+.{0,4}>\s*\d+:\d\d[.:,]\d+")
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
# Neither markup, nor a number that may be that of the next cue.
words = st.text(st.characters(categories=("L", "P", "S", "N"), exclude_characters="<>{}&\\"), min_size=1, max_size=8)
sentences = st.lists(words, min_size=1, max_size=5).map(lambda all_: "word " + " ".join(all_))
cue_lists = st.lists(
    st.tuples(st.integers(0, 90 * 3600_000), st.integers(1, 10_000), sentences), min_size=1, max_size=8
)
suffixes = st.sampled_from(["srt", "vtt"])


def read(folder, suffix, content, encoding=None):
    path = folder / f"m.{suffix}"
    path.write_bytes(content)
    return list(read_manifest(ObjectStoragePath(f"file://{path}"), encoding))


def summarize(lines):
    return [(line.start, line.end, line.fields["text"]) for line in lines]


def get_expected(cues):
    return [(start / 1000, (start + length) / 1000, text) for start, length, text in cues]


@FUZZ
@given(cues=cue_lists, suffix=suffixes, encoding=st.sampled_from(ENCODINGS), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_files_of_pysubs2_are_read_as_written(tmp_path, cues, suffix, encoding, end):
    cues = sorted(cues)  # as pysubs2 writes WebVTT
    file = pysubs2.SSAFile()
    for start, length, text in cues:
        event = pysubs2.SSAEvent(start=start, end=start + length)
        event.plaintext = text
        file.append(event)
    lines = read(tmp_path, suffix, file.to_string(suffix).replace("\n", end).encode(encoding))
    assert summarize(lines) == get_expected(cues)
    assert [line.id for line in lines] == [f"cue-{number:05}" for number in range(1, len(cues) + 1)]


def write_clock(milliseconds, separator):
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{separator}{rest:03}"


@FUZZ
@given(
    cues=cue_lists,
    suffix=suffixes,
    is_numbered=st.booleans(),
    offset=st.integers(0, 800 * 3600_000),
    encoding=st.sampled_from(ENCODINGS),
)
def test_files_written_by_hand_are_read_as_written(tmp_path, cues, suffix, is_numbered, offset, encoding):
    cues = [(start + offset, length, text) for start, length, text in cues]
    separator = "," if suffix == "srt" else "."
    content = "WEBVTT\n\n" if suffix == "vtt" else ""
    for number, (start, length, text) in enumerate(cues, 1):
        content += f"{number * 7}\n" if is_numbered else ""
        times = f"{write_clock(start, separator)} --> {write_clock(start + length, separator)}"
        content += f"{times}\n<i>{text.replace(' ', chr(10), 1)}</i>\n\n"
    lines = read(tmp_path, suffix, content.encode(encoding))
    assert summarize(lines) == get_expected(cues)
    step = 7 if is_numbered else 1
    assert [line.id for line in lines] == [f"cue-{number * step:05}" for number in range(1, len(cues) + 1)]


SAMPLE = (
    "WEBVTT\n\n1\n00:00:01,000 --> 00:00:02,500 align:start\n<v Bob>Hello</v>\nyou\n\n"
    "NOTE\n00:00:09.000 --> 00:00:10.000\n\n2\n00:03.000 --> 00:04.000\n42\n\n\n"
    "3\n100:00:05,000 --> 100:00:06,000\n{\\an8}<b>Caf\u00e9</b>: 10:30 &amp; 11:45\n\n"
)


@st.composite
def mangled_files(draw):
    """Return a subtitle file that was cut, spliced, shuffled, or written over."""
    content = SAMPLE.removeprefix(draw(st.sampled_from(["", "WEBVTT\n\n"])))
    match draw(st.sampled_from(["shuffle", "cut", "characters"])):
        case "shuffle":
            content = "\n".join(draw(st.permutations(content.split("\n"))))
        case "cut":
            start, end = sorted(draw(st.tuples(st.integers(0, len(content)), st.integers(0, len(content)))))
            content = content[:start] + content[end:]
        case "characters":
            for _ in range(draw(st.integers(1, 5))):
                at = draw(st.integers(0, len(content) - 1))
                content = (
                    content[:at]
                    + draw(st.sampled_from([*"\n\r\0->:,.0 1<{&\u2028\x85\f\ud7ff", ""]))
                    + content[at + 1 :]
                )
    raw = content.encode(draw(st.sampled_from([*ENCODINGS, "cp1252"])), "replace")
    at = draw(st.integers(0, len(raw)))
    return raw[:at] + draw(st.binary(max_size=3)) + raw[at:]


@FUZZ
@given(content=mangled_files() | st.binary(max_size=300), suffix=suffixes, encoding=st.none() | st.just("utf-16"))
def test_mangled_files_are_read_or_rejected(tmp_path, content, suffix, encoding):
    try:
        lines = read(tmp_path, suffix, content, encoding)
    except InvalidRequestError as error:
        assert f"m.{suffix}" in str(error)  # noqa: PT017 - only some contents raise it
        assert "cannot be read" not in str(error)  # noqa: PT017
        return
    numbers = [line.number for line in lines]
    assert numbers == sorted(set(numbers))
    ids = [line.id for line in lines if isinstance(line, ManifestLine)]
    assert len(set(ids)) == len(ids)
    for line in lines:
        if isinstance(line, InvalidLine):
            assert line.number >= 1
            assert len(line.error) < 500
        else:
            assert 0 <= line.start < line.end
            assert line.fields["text"].strip()
            assert "-->" not in line.fields["text"]
            assert not TIMING.search(line.fields["text"])
