"""Dry run of a batch: report what would be submitted, from the manifest and the destination, without calling MPS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_mps.batch.plan import plan_lines
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.spending import Spending
from airflow_provider_mps.batch.state import BatchState
from airflow_provider_mps.batch.summary import (
    MAX_LISTED_PROBLEMS,
    SUBMITS_PER_SECOND,
    format_problem_table,
    format_table,
    format_voice_table,
)

if TYPE_CHECKING:
    from airflow_provider_mps.batch.line import BatchOptions
    from airflow_provider_mps.batch.lock_holder import LockHolder

MAX_LOGGED_ERRORS = 1000
LABELS = {"least_seconds": "seconds to submit, at least"}  # in the table; others are the names of the report


def dry_run(options: BatchOptions, holder: LockHolder, log: Any) -> tuple[dict[str, Any], str]:
    """
    Report what a batch would submit.

    :return: counts, characters, the least seconds at MPS's rate limit, sums by voice and the first errors by line; and
        tables of them
    """
    state = BatchState(options, holder, log)
    spending = asyncio.run(_plan_all(options, state))
    errors = state.row_store.problems(MAX_LOGGED_ERRORS, LineStatus.INVALID)
    for row in errors:
        log.warning("Line %s%s: %s", row.line, f" (id {row.id})" if row.id else "", row.error)
    listed = errors[:MAX_LISTED_PROBLEMS]
    summary = state.row_store.summarize()
    characters = spending.total_characters
    submits, invalid = summary.count(LineStatus.PENDING), summary.count(LineStatus.INVALID)
    seconds = submits / SUBMITS_PER_SECOND
    report: dict[str, Any] = {
        "dry_run": True,
        "lines": summary.lines,
        "to_submit": submits,
        "characters": characters,
        "least_seconds": seconds,
        "invalid": invalid,
        **spending.to_json(),
        "errors": {str(row.line): row.error for row in listed},
    }
    shown = ["lines", "to_submit", "characters", "least_seconds", "invalid"]
    if summary.empty_cues is not None:
        report["empty_cues"] = summary.empty_cues
        shown.append("empty_cues")
    limit = options.max_total_characters
    if limit is not None:
        report["max_total_characters"], report["exceeds_limit"] = limit, characters > limit
        shown.append("max_total_characters")
    message = "Dry run: %s lines, %s to submit with %s characters%s in at least %.0f s, %s invalid"
    log.info(message, summary.lines, submits, characters, spending.format_cost(characters), seconds, invalid)
    if submits:
        log.info("By voice: %s", spending.to_line())
    if report.get("exceeds_limit"):
        log.warning("The batch would submit nothing: more than max_total_characters (%s) are left to submit", limit)
    tables = [format_table([(LABELS.get(name, name.replace("_", " ")), f"{report[name]:,.0f}") for name in shown])]
    tables += [format_voice_table(spending)] if submits else []
    tables += [format_problem_table(listed, invalid)] if invalid else []
    return report, "\n\n".join(tables)


async def _plan_all(options: BatchOptions, state: BatchState) -> Spending:
    """Put the row of each line into the row store; count those that would be submitted."""
    await state.read_earlier_state()
    spending = Spending(options.price_per_1000_characters)
    async for planned in plan_lines(options, state.row_store, state.report_subtitles):
        state.row_store.put(planned.row)
        if planned.is_to_submit:
            spending.add(planned.voice, planned.row.characters or 0)
    return spending
