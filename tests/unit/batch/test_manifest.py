import json
import re
import tracemalloc

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, ObjectStoragePath

from airflow_provider_mps.batch import manifest
from airflow_provider_mps.batch.line import InvalidLine, LineDefaults, ManifestLine
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.exceptions import InvalidRequestError

GOOD = '{"id": "a", "text": "one", "voice_id": "v"}'


@pytest.fixture
def read(tmp_path):
    """Write a manifest, and read its lines."""

    def write(content, name="manifest.jsonl"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_manifest(ObjectStoragePath(f"file://{tmp_path}/{name}")))

    return write


def summarize(lines):
    return [(line.number, line.id if isinstance(line, ManifestLine) else line.error) for line in lines]


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_json_lines_are_read(read, end):
    lines = read(GOOD + "\n\n" + GOOD.replace('"a"', '"b"') + end)
    assert summarize(lines) == [(1, "a"), (3, "b")]
    assert lines[0].fields == {"id": "a", "text": "one", "voice_id": "v"}


def test_csv_with_a_header_is_read(read):
    lines = read('id,text,voice_id,pitch\r\na,"one, two\nthree",v,\r\n\r\nb,four,w,3\r\n', "manifest.csv")
    assert summarize(lines) == [(2, "a"), (5, "b")]
    assert lines[0].fields == {"id": "a", "text": "one, two\nthree", "voice_id": "v"}
    assert lines[1].fields["pitch"] == "3"


@pytest.mark.parametrize(
    ("name", "content"), [("list", GOOD), ("list", "id,text,voice_id\na,one,v"), ("x.CSV", "id\na")]
)
def test_format_is_detected_by_name_or_content(read, name, content):
    assert summarize(read(content, name))[0][1] == "a"


def test_empty_lines_before_the_csv_header_are_skipped(read):
    (line,) = read("\n,,\nid,text,voice_id\na,one,v\n", "m.csv")
    assert (line.id, line.number) == ("a", 4)


@pytest.mark.parametrize(("name", "content"), [("m.jsonl", GOOD), ("m.csv", "id,text,voice_id\na,one,v\n")])
def test_byte_order_mark_is_skipped(read, name, content):
    assert summarize(read(b"\xef\xbb\xbf" + content.encode(), name))[0][1] == "a"


@pytest.mark.parametrize(
    ("content", "number", "message"),
    [
        (f"{GOOD}\n{{broken\n{GOOD}", 2, "is not JSON"),
        (f"{GOOD}\n[1]\n{GOOD}", 2, "must be a JSON object"),
        (GOOD.encode() + b'\n{"id": "\xff"}\n', 2, r"is not UTF-8 \(byte"),
        (f'{GOOD}\n{{"text": "x"}}', 2, "has no id"),
        (f"{GOOD}\n{'[' * 100_000}", 2, "is not JSON"),
    ],
)
def test_invalid_json_line_is_reported_and_others_read(read, content, number, message):
    lines = read(content)
    (invalid,) = [line for line in lines if isinstance(line, InvalidLine)]
    assert invalid.number == number
    assert re.search(message, invalid.error)
    assert lines[0].id == "a"


@pytest.mark.parametrize(
    ("row", "message"),
    [("a,one,v,more", "has 4 cells"), (b"a,\xff,v", "not UTF-8"), ('a,"one" two,v', "not CSV"), (",one,v", "no id")],
)
def test_invalid_csv_line_is_reported_and_others_read(read, row, message):
    content = b"id,text,voice_id\n" + (row if isinstance(row, bytes) else row.encode()) + b"\nb,two,v\n"
    invalid, good = read(content, "m.csv")
    assert message in invalid.error
    assert (invalid.number, good.id) == (2, "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{GOOD}]", "is a JSON array"),
        (GOOD.encode("utf-16"), "UTF-16"),
        ("text,voice_id\none,v\n", "no column 'id'"),
        ("id;text\na;one\n", "an unknown column 'id;text'.*separated by commas"),
        ("id,id\na,b\n", "a duplicate column"),
    ],
)
def test_invalid_manifest_fails_without_retry(read, content, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        read(content, "manifest")
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("name", ["film.ass", "film.TTML"])
def test_other_subtitle_format_fails_without_retry(read, name):
    with pytest.raises(InvalidRequestError, match=r"Convert it to \.srt or \.vtt"):
        read("[Script Info]", name)


@pytest.mark.parametrize(
    "content",
    [
        'id,text,voice_id\na,"one,v\nb,two,w\nc,"three,x\n',
        'id,text,voice_id\na,"one,v\nb,two,w\nc,three,x\n',
        'id,text,voice_id\na,b,c,"one,v\nb,two,w\nc,three",x\n',
    ],
)
def test_unclosed_quote_is_reported_with_the_lines_it_spans(read, content):
    (invalid,) = read(content, "m.csv")
    assert invalid.number == 2
    assert "it spans lines 2 to 4: is a closing quote missing?" in invalid.error


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m"])
def test_empty_manifest_has_no_lines(read, name):
    assert read("", name) == []


def test_missing_manifest_fails_with_its_path(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"The manifest file:///.*nothing.jsonl cannot be read"):
        list(read_manifest(ObjectStoragePath(f"file://{tmp_path}/nothing.jsonl")))


def test_read_error_in_the_middle_is_retriable(tmp_path, monkeypatch):
    class Failing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, _):
            raise ConnectionError("the network is unavailable")

    monkeypatch.setattr(ObjectStoragePath, "open", lambda *_: Failing())
    with pytest.raises(AirflowException, match=r"failed before its end.*A retry resumes") as caught:
        list(read_manifest(ObjectStoragePath(f"file://{tmp_path}/m.jsonl")))
    assert not isinstance(caught.value, AirflowFailException)


def test_oversized_line_is_invalid_and_the_next_is_read(read, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_LINE_BYTES", 64)
    invalid, good = read('{"id": "long", "text": "' + "x" * 500 + '"}\n' + GOOD)
    assert "more than 64 bytes" in invalid.error
    assert (good.number, good.id) == (2, "a")


@pytest.mark.slow
def test_manifest_of_100_mb_is_read_in_little_memory(tmp_path):
    text = "x" * 1000
    with (tmp_path / "m.jsonl").open("w") as file:
        for number in range(100_000):
            file.write(json.dumps({"id": number, "text": text, "voice_id": "v"}) + "\n")
    assert (tmp_path / "m.jsonl").stat().st_size > 100_000_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_manifest(ObjectStoragePath(f"file://{tmp_path}/m.jsonl")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 20_000_000


def test_numbers_in_text_fields_are_kept_as_written(read):
    (numbers,) = read('{"id": 1.0, "text": 1.50, "voice_id": 101001, "target_duration": 2.5}')
    request = numbers.make_request(LineDefaults(), ObjectStoragePath("file:///m.jsonl"))
    assert (numbers.id, request.text, request.voice_id) == ("1.0", "1.50", "101001")
    assert request.ext_param == {"synExt": {"duration": 2.5}}
    assert summarize(read(f'{{"id": {10**30}}}')) == [(1, str(10**30))]


@pytest.mark.parametrize("value", ["true", "NaN", "Infinity", "[1]", "null"])
def test_id_that_is_neither_text_nor_number_is_rejected(read, value):
    assert "has no id" in read(f'{{"id": {value}}}')[0].error


def test_empty_columns_and_cells_of_excel_are_skipped(read):
    content = "id,text,voice_id,,\na,one,v,,\nb,two,v,,,, ,\n,,,,\nc,three\nd,four,v,,note\n"
    lines = read(content, "m.csv")
    assert [line.id for line in lines[:3]] == ["a", "b", "c"]
    assert lines[0].fields == {"id": "a", "text": "one", "voice_id": "v"}
    assert (lines[3].number, lines[3].error) == (
        6,
        "the line has 5 cells, and the header has no column name for cell 5.",
    )


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m"])
@pytest.mark.parametrize(
    "content",
    [
        *(GOOD.encode(encoding) for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
        "id,text\na,one\n".encode("utf-16-le"),
        b"PK\x03\x04\x14\x00\x06\x00\x08\x00 a docx or xlsx",
    ],
)
def test_manifest_in_another_encoding_is_rejected(read, name, content):
    with pytest.raises(InvalidRequestError, match="has NUL bytes"):
        read(content, name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.jsonl", '{"id": "a", "text": "one\\u0000", "voice_id": "v"}'), ("m.csv", "id,text,voice_id\na,one\0,v")],
)
def test_text_with_nul_characters_is_rejected(read, name, content):
    (padded,) = read(content, name)
    with pytest.raises(InvalidRequestError, match=r"text has the control character U\+0000"):
        padded.make_request(LineDefaults(), ObjectStoragePath("file:///m.jsonl"))
