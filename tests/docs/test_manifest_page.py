"""docs/manifest.md describes each field, key and status of a batch as the code has them."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_mps.batch.line import (
    FIELDS,
    MAX_FILE_NAME_BYTES,
    MAX_ID_BYTES,
    RESERVED_NAMES,
    LineDefaults,
    ManifestLine,
)
from airflow_provider_mps.batch.line_processor import _UNKNOWN, LineAction, decide_line_action
from airflow_provider_mps.batch.manifest import MAX_LINE_BYTES, read_manifest
from airflow_provider_mps.batch.row import LEGACY_STATUSES, LineStatus, Row
from airflow_provider_mps.batch.row_store import RowStore
from airflow_provider_mps.batch.run import REPORT_INTERVAL_FACTOR, REPORT_INTERVAL_SECONDS
from airflow_provider_mps.batch.subtitle_encoding import parse_encoding
from airflow_provider_mps.batch.subtitles import MAX_SUBTITLE_BYTES
from airflow_provider_mps.batch.summary import MAX_LISTED_PROBLEMS, SUBMITS_PER_SECOND
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator, _make_failure
from airflow_provider_mps.speech.ext_param import MAX_PITCH, SAMPLE_RATES
from airflow_provider_mps.speech.parsing import OnUnknown
from tests.batching import batch, context, line, run_batch, write_manifest
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables
from tests.faulty_emulator import make_api_error

PAGE = DOCS / "manifest.md"
TEXT = PAGE.read_text()
MANIFEST, *ROW_BLOCKS = read_blocks(PAGE, "jsonl")
ROWS = {row["status"]: row for block in ROW_BLOCKS for row in map(json.loads, block.splitlines())}
SUMMARY, RETURN_VALUE, DRY_RUN = map(json.loads, read_blocks(PAGE, "json"))
ACTION_VERBS = {
    LineAction.KEEP: "Keeps",
    LineAction.WAIT: "Waits",
    LineAction.SUBMIT: "Submits",
    LineAction.MARK_UNKNOWN: "Marks",
}


def read_keys(heading: str) -> dict[str, dict[str, str]]:
    """Return the rows of the first table below a heading, by each code-formatted name of the first column."""
    table = next(read_tables(read_section(PAGE, heading)))
    return {key: row for row in table for key in re.findall(r"`([^`]+)`", next(iter(row.values())))}


def matches_type(value: object, words: str) -> bool:
    """Return whether a JSON value has the type that a table cell names first."""
    name = words.partition(",")[0]
    if name in {"`true` or `false`", "`true`"}:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    types = {"Text": str, "Whole number": int, "Number": int | float, "Array of four values": list, "Object": dict}
    return isinstance(value, types[name])


@pytest.fixture
def real_rows(app, tmp_path, clips):
    """The rows of a batch with a stored, a failed, a rejected, an unknown and an invalid line."""
    lines = [line(0), line(1, text="[fail] x"), line(2), line(3), line(4, pitch=99)]
    destination, task_context = clips.destination, context()
    for number, fault in ((2, make_api_error("InvalidParameterValue.VoiceId")), (3, (502, b"bad gateway"))):
        app.faults.append(fault)
        with pytest.raises(AirflowFailException):
            run_batch(write_manifest(tmp_path / "one.jsonl", [lines[number]]), destination)
    with pytest.raises(AirflowFailException):
        batch(write_manifest(tmp_path / "m.jsonl", lines), destination).execute(task_context)
    return {row["status"]: row for row in clips.rows()}, clips.summary(), task_context["ti"].xcoms


def test_manifest_fields_are_those_of_the_code():
    assert tuple(read_keys("Fields of a line")) == FIELDS


def test_manifest_fields_are_arguments_of_the_operator():
    arguments = set(inspect.signature(TextToSpeechBatchOperator.__init__).parameters)
    assert "All fields except `id`, `text`, `text_path`, `start` and `end` are also arguments" in TEXT
    assert set(FIELDS) - {"id", "text", "text_path", "start", "end"} <= arguments


def test_manifest_limits_are_those_of_the_code():
    fields = read_keys("Fields of a line")
    assert re.findall(r"\d+", fields["sample_rate"]["Rules"])[:-1] == [str(rate) for rate in SAMPLE_RATES]
    assert f"From -{MAX_PITCH} to {MAX_PITCH}." in fields["pitch"]["Rules"]
    assert f"at most {MAX_FILE_NAME_BYTES} bytes in UTF-8; the whole id has at most {MAX_ID_BYTES}" in TEXT
    assert all(f"`{name}`" in read_section(PAGE, "Ids") for name in RESERVED_NAMES)
    assert f"| Longest line | {MAX_LINE_BYTES // 1024**2} MiB |" in TEXT


def test_manifest_field_examples_are_valid(tmp_path):
    fields = {name: json.loads(row["Example"].strip("`")) for name, row in read_keys("Fields of a line").items()}
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/2.txt").write_text("Two.")
    manifest = ObjectStoragePath(f"file://{tmp_path}/m.jsonl")
    fields["ext_param"] = {}
    text_path, voice_name = fields.pop("text_path"), fields.pop("voice_name")
    ManifestLine.parse(1, fields).make_request(LineDefaults(), manifest)
    del fields["text"]
    ManifestLine.parse(1, {**fields, "text_path": text_path}).make_request(LineDefaults(), manifest)
    del fields["voice_id"]
    fields["voice_name"] = voice_name
    ManifestLine.parse(1, {**fields, "text_path": text_path}).make_request(LineDefaults(), manifest)


def test_manifest_samples_have_the_same_lines(app, tmp_path, clips):
    (csv,) = read_blocks(PAGE, "csv")
    (tmp_path / "m.jsonl").write_text(MANIFEST)
    (tmp_path / "m.csv").write_text(csv)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/2.txt").write_text("Two.")
    read = {name: list(read_manifest(ObjectStoragePath(f"file://{tmp_path}/m.{name}"))) for name in ("jsonl", "csv")}
    fields = {
        name: [{key: str(one.fields[key]) for key in one.fields} for one in lines] for name, lines in read.items()
    }
    assert fields["jsonl"] == fields["csv"]
    result = run_batch(f"file://{tmp_path}/m.csv", clips.destination)
    assert result["stored"] == 3
    # The requests are the same, so nothing is submitted again.
    run_batch(f"file://{tmp_path}/m.jsonl", clips.destination, "run-2")
    assert app.actions.count("TextToSpeechAsync") == 3


def test_subtitle_sample_has_the_lines_of_its_table(tmp_path):
    section = read_section(PAGE, "Subtitle files")
    table = next(read_tables(section))
    (sample,) = read_blocks(PAGE, "text")
    (tmp_path / "film.srt").write_text(sample)
    lines = list(read_manifest(ObjectStoragePath(f"file://{tmp_path}/film.srt")))
    cells = [[cell.strip("`") for cell in row.values()] for row in table]
    assert [[line.id, line.fields["text"], str(line.start), str(line.end)] for line in lines] == cells
    assert f"at most {MAX_SUBTITLE_BYTES // 1024**2} MiB" in section


def test_listed_errors_of_subtitles_are_those_of_the_code(tmp_path):
    table = next(read_tables(read_section(PAGE, "Errors in a subtitle file")))
    (tmp_path / "film.srt").write_text(
        "Subtitles by Anna\n\n1\n00:00:01,000 -> 00:00:02,500\none\n\n2\n00:00:02,500 --> 00:00:02,000\ntwo\n\n"
        "3\n00:00:03,000 --> 00:00:04,000\nyou --> me\n\n"
        "4\n00:00:05,000 --> 00:00:06,000\nfour\n\nscene 2\n00:00:07,000 --> 00:00:08,000\n42\n"
        "00:00:09,000 --> 00:00:10,000\nfive\n00:00:01,000 -> 00:00:02,500\n"
        "\n5\n00:00:11,000 --> 00:00:12,000\n00:07.000\n-> 00:08.000\n"
    )
    report = run_batch(f"file://{tmp_path}/film.srt", f"file://{tmp_path}/clips/", dry_run=True, voice_id="v")
    assert set(report["errors"].values()) == {row["Error"].strip("`") for row in table}


def test_encodings_of_the_page_are_those_of_the_code():
    section = read_section(PAGE, "Encodings")
    names = re.findall(r"`([a-z]+_?[a-z]*\d*)`", section.partition("```")[0])
    assert "gb18030" in names
    assert [parse_encoding(name) for name in names] == names


def test_statuses_of_tables_and_samples_are_those_of_the_code():
    statuses = {status.value for status in LineStatus}
    assert set(read_keys("Statuses")) == statuses
    assert len(ROW_BLOCKS) == len(ROWS) == len(statuses)
    assert set(ROWS) == statuses
    for status in statuses:
        assert f'"status": "{status}"' in read_section(PAGE, status)
    for legacy, status in LEGACY_STATUSES.items():
        assert f"`{legacy}` for `{status}`" in TEXT


@pytest.mark.parametrize("status", [status.value for status in LineStatus])
def test_sample_row_is_what_the_code_writes(status):
    sample, keys = ROWS[status], read_keys("results.jsonl")
    assert Row.from_json(sample).to_json() == sample
    assert list(sample) == list(keys) == list(Row(None, None, LineStatus.PENDING).to_json())
    for key, value in sample.items():
        assert value is None or matches_type(value, keys[key]["Type"]), key


def test_status_table_says_what_the_code_does_next():
    for status, words in read_keys("Statuses").items():
        row = Row.from_json({**ROWS[status], "request": "same"})
        if status == "invalid":
            assert words["A retry"].startswith("Reads")
            continue
        rows = RowStore()
        rows.load([row])
        retry = decide_line_action(row, "same", OnUnknown.FAIL)
        rows.reset_failed()
        clear = decide_line_action(rows.find(row.id), "same", OnUnknown.FAIL)
        assert words["A retry"].startswith(ACTION_VERBS[retry]), status
        assert words["A clear, or another run"].startswith(ACTION_VERBS[clear]), status


def test_summary_sample_is_that_of_the_sample_rows():
    rows = RowStore()
    rows.load(Row.from_json(row) for row in ROWS.values())
    counted = rows.summarize().to_json()
    assert {key: SUMMARY[key] for key in counted} == counted
    assert RETURN_VALUE["seconds"] == 2 * ROWS["stored"]["duration"]
    assert RETURN_VALUE["bytes"] == 2 * ROWS["stored"]["size"]


def test_summary_table_has_the_keys_of_the_sample_with_their_types():
    keys = read_keys("summary.json")
    names = [name for name in keys if name != "true"]
    assert names == [*SUMMARY, "ended"]
    for key, value in SUMMARY.items():
        assert matches_type(value, keys[key]["Type"]), key


def test_return_value_is_described_by_the_summary_table():
    described = {*read_keys("summary.json"), "results", "summary"}
    assert set(RETURN_VALUE) == described - {
        "manifest",
        "finished",
        "run",
        "max_tries",
        "writer",
        "write_ahead_log",
        "ended",
    }
    introduction = read_section(PAGE, "Return value and XComs").partition("```")[0]
    assert "`results` and `summary` are the paths of both files" in introduction


def test_real_batch_writes_the_keys_and_types_of_the_page(real_rows):
    rows, summary, xcoms = real_rows
    assert set(rows) == {"stored", "failed", "rejected", "unknown", "invalid"}
    for status, row in rows.items():
        assert list(row) == list(ROWS[status])
        for key, value in row.items():
            if not (status == "invalid" and key == "id"):
                assert type(value) is type(ROWS[status][key]), (status, key)
    assert list(summary) == [*SUMMARY, "ended"]
    assert {key: type(value) for key, value in summary.items() if key != "ended"} == {
        key: type(value) for key, value in SUMMARY.items()
    }
    assert set(xcoms) == set(read_keys("Return value and XComs")) - {"return_value"}
    assert list(xcoms["summary"]) == list(RETURN_VALUE)


def test_error_of_the_samples_is_worded_as_in_the_code(real_rows):
    rows, _, _ = real_rows
    for status, pattern in (
        ("failed", r" failed: ErrorCode \d+: .*\. Fix the text .*"),
        ("rejected", r"^\w+ for a text of"),
    ):
        for row in (rows[status], ROWS[status]):
            assert re.search(pattern, row["error"]), row["error"]
    assert rows["invalid"]["error"] == ROWS["invalid"]["error"]
    assert ROWS["unknown"]["error"] == _UNKNOWN.format(sent_at=ROWS["unknown"]["sent_at"])


def test_successful_batch_returns_the_keys_of_the_page(app, tmp_path, clips):
    result = run_batch(write_manifest(tmp_path / "m.jsonl", [line(0)]), clips.destination)
    assert {key: type(value) for key, value in result.items()} == {
        key: type(value) for key, value in RETURN_VALUE.items()
    }
    assert "ended" not in clips.summary()


def test_dry_run_returns_the_keys_of_the_page(app, tmp_path, clips):
    lines = [line(0), line(1, sample_rate=1)]
    report = run_batch(write_manifest(tmp_path / "m.jsonl", lines), clips.destination, dry_run=True)
    keys = read_keys("Return value of a dry run")
    assert list(report) == list(DRY_RUN) == [name for name in keys if name != "true"]
    assert report["errors"]["2"] == DRY_RUN["errors"]["42"]
    for key, value in report.items():
        assert type(value) is type(DRY_RUN[key])
        assert matches_type(value, keys[key]["Type"]), key
    assert DRY_RUN["least_seconds"] == DRY_RUN["to_submit"] / SUBMITS_PER_SECOND
    assert not clips.root.exists()


def test_listed_errors_are_those_of_the_code(tmp_path):
    listed = [row["Error"].strip("`") for row in next(read_tables(read_section(PAGE, "Errors in a manifest")))]
    lines = [
        "{broken",
        {"id": "a", "voice": "v"},
        {"text": "x"},
        {"id": "chapter-1", "text": "x", "voice_id": "v"},
        {"id": "chapter-1", "text": "x", "voice_id": "v"},
        {"id": "b", "text": "x"},
        {"id": "c", "text": "x" * 1200, "voice_id": "v"},
        {"id": "d", "text": "\0x", "voice_id": "v"},
        {"id": "e", "text": "x", "voice_id": "v", "voice_name": "n"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
    (tmp_path / "m.csv").write_text('id,text,voice_id\na,x,v\nb,"x,v\n' + "c,x,v\n" * 6)
    errors = []
    for name in ("jsonl", "csv"):
        manifest = f"file://{tmp_path}/m.{name}"
        report = run_batch(manifest, f"file://{tmp_path}/clips/", dry_run=True, max_characters=1000)
        errors += report["errors"].values()
    for words in listed:
        pattern = ".*".join(re.escape(part) for part in words.split("…"))
        matching = [error for error in errors if re.match(pattern.replace("line\\ 1", r"line\ \d+"), error)]
        assert len(matching) == 1, words


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.jsonl", None),
        ("empty.jsonl", b""),
        ("wide.jsonl", '{"id": "a"}'.encode("utf-16")),
        ("array.jsonl", b'[{"id": "a"}]'),
        ("column.csv", b"id,text,voice\n"),
        ("repeated.csv", b"id,id,text\n"),
        ("without.csv", b"text,voice_id\n"),
        ("clips/results.jsonl", b'{"id": "a"}'),
    ],
)
def test_error_of_a_whole_manifest_is_not_retried(app, tmp_path, clips, name, content):
    if content is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AirflowFailException):
        run_batch(f"file://{tmp_path}/{name}", clips.destination)
    assert app.actions.count("TextToSpeechAsync") == 0


def test_intervals_and_limits_are_those_of_the_code():
    assert f"every {REPORT_INTERVAL_SECONDS:g} seconds while it" in TEXT
    assert f"if writing takes longer than {REPORT_INTERVAL_SECONDS / REPORT_INTERVAL_FACTOR:g} seconds" in TEXT
    assert f"the first {MAX_LISTED_PROBLEMS} lines without audio" in TEXT
    assert f"for the first {MAX_LISTED_PROBLEMS} invalid lines" in TEXT


def test_airflow_retries_only_a_batch_with_audio_to_store():
    for status in ("store_failed", "failed", "rejected", "invalid", "unknown"):
        rows = RowStore()
        rows.load([Row.from_json(ROWS[status])])
        failure = _make_failure(rows.summarize(), "1 line has no audio")
        assert isinstance(failure, AirflowFailException) == (status != "store_failed")
    assert "Airflow retries a task with such lines" in read_section(PAGE, "store_failed")
