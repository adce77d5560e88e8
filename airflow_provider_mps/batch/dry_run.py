"""Dry run of a batch: report what would be submitted, from the manifest and the destination, without calling MPS."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.line import InvalidLine
from airflow_provider_mps.batch.line_processor import LineAction, decide_line_action
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.batch.row import LineStatus, Row, make_duplicate_row
from airflow_provider_mps.batch.state import BatchState
from airflow_provider_mps.batch.summary import (
    MAX_LISTED_PROBLEMS,
    SUBMITS_PER_SECOND,
    format_problem_table,
    format_table,
)
from airflow_provider_mps.batch.voices import use_earlier_voice

if TYPE_CHECKING:
    from airflow_provider_mps.batch.line import BatchOptions, ManifestLine
    from airflow_provider_mps.batch.lock_holder import LockHolder
    from airflow_provider_mps.batch.row_store import RowStore

MAX_LOGGED_ERRORS = 1000


def dry_run(options: BatchOptions, holder: LockHolder, log: Any) -> tuple[dict[str, Any], str]:
    """
    Report what a batch would submit.

    :return: counts, characters, the least seconds at MPS's rate limit and the first errors by line; and a table of them
    """
    state = BatchState(options, holder, log)
    asyncio.run(state.read_earlier_state())
    characters = 0
    for line in read_manifest(options.manifest, options.subtitle_encoding, state.report_subtitles):
        row = _check_line(line, state.row_store, options)
        state.row_store.put(row)
        if row.status is LineStatus.PENDING:
            characters += row.characters or 0
    errors = state.row_store.problems(MAX_LOGGED_ERRORS, LineStatus.INVALID)
    for row in errors:
        log.warning("Line %s%s: %s", row.line, f" (id {row.id})" if row.id else "", row.error)
    listed = errors[:MAX_LISTED_PROBLEMS]
    summary = state.row_store.summarize()
    submits, invalid = summary.count(LineStatus.PENDING), summary.count(LineStatus.INVALID)
    seconds = submits / SUBMITS_PER_SECOND
    report: dict[str, Any] = {
        "dry_run": True,
        "lines": summary.lines,
        "to_submit": submits,
        "characters": characters,
        "least_seconds": seconds,
        "invalid": invalid,
        "errors": {str(row.line): row.error for row in listed},
    }
    shown = ["lines", "to_submit", "characters", "least_seconds", "invalid"]
    if summary.empty_cues is not None:
        report["empty_cues"] = summary.empty_cues
        shown.append("empty_cues")
    message = "Dry run: %s lines, %s to submit with %s characters in at least %.0f s, %s invalid"
    log.info(message, summary.lines, submits, characters, seconds, invalid)
    table = format_table([(name.replace("_", " "), f"{report[name]:,.0f}") for name in shown])
    return report, table + (f"\n\n{format_problem_table(listed, invalid)}" if invalid else "")


def _check_line(line: ManifestLine | InvalidLine, row_store: RowStore, options: BatchOptions) -> Row:
    """Return the row of a line: pending if it would be submitted."""
    if isinstance(line, InvalidLine):
        return Row(None, line.number, LineStatus.INVALID, error=line.error)
    known = row_store.find(line.id)
    if duplicate := make_duplicate_row(line.id, line.number, known):
        return duplicate
    try:
        request = line.make_request(options.defaults, options.manifest)
    except AirflowException as error:
        return Row(line.id, line.number, LineStatus.INVALID, error=str(error))
    if request.voice_name is not None:  # which voice has the name now, only MPS knows
        earlier = use_earlier_voice(request, known)
        if earlier is None:
            return Row(line.id, line.number, LineStatus.PENDING, characters=len(request.text))
        request = earlier
    fingerprint = request.fingerprint(options.mps_conn_id, options.region)
    if decide_line_action(known, fingerprint, options.on_unknown) is LineAction.SUBMIT:
        return Row(line.id, line.number, LineStatus.PENDING, characters=len(request.text), request=fingerprint)
    assert known is not None  # noqa: S101 - else it would be submitted
    return replace(known, line=line.number, start=line.start, end=line.end)
