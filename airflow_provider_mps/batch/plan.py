"""Decide what a batch would do with each line of its manifest, before it calls MPS."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.line import InvalidLine
from airflow_provider_mps.batch.line_processor import LineAction, decide_line_action
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.batch.row import LineStatus, Row, make_duplicate_row
from airflow_provider_mps.batch.spending import Spending
from airflow_provider_mps.batch.voices import use_earlier_voice
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.exceptions import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow_provider_mps.batch.line import BatchOptions, ManifestLine
    from airflow_provider_mps.batch.row_store import RowStore
    from airflow_provider_mps.batch.subtitles import SubtitleStatistics

CHUNK_LINES = 32
"""Lines that are planned at once; each text file is read in a thread of its own."""


class PlannedLine(NamedTuple):
    """What a batch would do with a line."""

    row: Row
    """Pending if the line would be submitted, with its characters."""
    voice: str | None = None
    """VoiceId or name of the voice, as the line or the batch gives it."""

    @property
    def is_to_submit(self) -> bool:
        """Whether the batch would submit the line, which MPS bills."""
        return self.row.status is LineStatus.PENDING


async def plan_lines(
    options: BatchOptions, row_store: RowStore, report_subtitles: Callable[[SubtitleStatistics], None] = lambda _: None
) -> AsyncIterator[PlannedLine]:
    """
    Plan the lines of the manifest one by one, without changing the rows of earlier runs.

    :raises InvalidRequestError: when the manifest cannot be read
    :raises AirflowException: when reading it failed; a retry may succeed
    """
    lines = read_manifest(options.manifest, options.subtitle_encoding, report_subtitles)
    first_lines: dict[str, int] = {}
    while chunk := await run_in_daemon_thread(lambda: list(itertools.islice(lines, CHUNK_LINES))):
        for planned in await _plan_chunk(chunk, row_store, options):
            line_id, number = planned.row.id, planned.row.line
            if line_id is not None and number is not None:
                first = replace(planned.row, line=first_lines.get(line_id))
                if duplicate := make_duplicate_row(line_id, number, first):
                    yield PlannedLine(duplicate)
                    continue
                if planned.row.status is not LineStatus.INVALID:
                    first_lines[line_id] = number
            yield planned


async def validate_character_limit(options: BatchOptions, row_store: RowStore, log: Any) -> None:
    """
    Check that all that is left to submit stays within ``max_total_characters``.

    :raises InvalidRequestError: if it does not; a retry would not help
    """
    limit = options.max_total_characters
    # After a deferral, the lines were submitted within the limit, and their audio must be stored.
    if limit is None or options.keep_voices:
        return
    left = Spending()
    async for planned in plan_lines(options, row_store):
        if planned.is_to_submit:
            left.add(planned.voice, planned.row.characters or 0)
    lines, characters = left.total_lines, left.total_characters
    log.info("%s lines with %s characters are left to submit; the limit is %s", lines, characters, limit)
    if characters > limit:
        raise InvalidRequestError(
            f"{characters} characters in {lines} lines are left to submit, more than max_total_characters ({limit}): "
            "nothing was submitted. Raise the limit, or remove lines from the manifest; then clear the task."
        )


async def _plan_chunk(
    chunk: list[ManifestLine | InvalidLine], row_store: RowStore, options: BatchOptions
) -> list[PlannedLine]:
    def plan(line: ManifestLine | InvalidLine) -> Callable[[], PlannedLine]:
        return lambda: _plan_line(line, row_store, options)

    reading = {
        place: run_in_daemon_thread(plan(line))
        for place, line in enumerate(chunk)
        if not isinstance(line, InvalidLine) and "text_path" in line.fields
    }
    await asyncio.gather(*reading.values())
    return [reading[place].result() if place in reading else plan(line)() for place, line in enumerate(chunk)]


def _plan_line(line: ManifestLine | InvalidLine, row_store: RowStore, options: BatchOptions) -> PlannedLine:
    if isinstance(line, InvalidLine):
        return PlannedLine(Row(None, line.number, LineStatus.INVALID, error=line.error))
    known = row_store.find(line.id)
    try:
        request = line.make_request(options.defaults, options.manifest)
    except AirflowException as error:
        return PlannedLine(Row(line.id, line.number, LineStatus.INVALID, error=str(error)))
    voice = request.voice_name or request.voice_id
    pending = Row(line.id, line.number, LineStatus.PENDING, characters=len(request.text))
    if request.voice_name is not None:  # which voice has the name now, only MPS knows
        earlier = use_earlier_voice(request, known)
        if earlier is None:
            return PlannedLine(pending, voice)
        request = earlier
    fingerprint = request.fingerprint(options.mps_conn_id, options.region)
    if decide_line_action(known, fingerprint, options.on_unknown) is LineAction.SUBMIT:
        return PlannedLine(replace(pending, request=fingerprint), voice)
    assert known is not None  # noqa: S101 - else it would be submitted
    return PlannedLine(replace(known, line=line.number, start=line.start, end=line.end), voice)
