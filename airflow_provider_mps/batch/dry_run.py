"""What a batch would do and cost: told by its manifest alone, without a call of the API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.books import Books
from airflow_provider_mps.batch.line import BrokenLine
from airflow_provider_mps.batch.manifest import read_manifest
from airflow_provider_mps.batch.plan import Step, next_step
from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.summary import NAMED, QUOTA, problem_table

if TYPE_CHECKING:
    from airflow_provider_mps.batch.lease import Holder
    from airflow_provider_mps.batch.ledger import Ledger
    from airflow_provider_mps.batch.options import BatchOptions

MOST_TOLD = 1000
"""Errors that are logged."""


def dry_run(options: BatchOptions, holder: Holder, log: Any) -> tuple[dict[str, Any], str]:
    """
    Read the manifest, and what is known of its destination.

    :param options: of the batch
    :param holder: whose task it is
    :param log: the task's
    :return: counts, the least seconds that the quota allows, and the first errors by line; and the same as a table
    """
    books = Books(options, holder, lambda _: None, log)
    ledger = books.ledger
    try:
        asyncio.run(books.look_back())
        lines = characters = submits = errors = 0
        for line in read_manifest(options.manifest):
            lines += 1
            row = _judged(line, ledger, options)
            ledger.put(row)
            if row.status is LineStatus.INVALID:
                errors += 1
                if errors <= MOST_TOLD:
                    log.warning("Line %s%s: %s", row.line, f" (id {row.id})" if row.id else "", row.error)
            elif row.status is LineStatus.PENDING:
                submits += 1
                characters += row.characters or 0
        problems = ledger.problems(NAMED, LineStatus.INVALID)
    finally:
        ledger.close()
    told = {
        "dry_run": True,
        "lines": lines,
        "to_submit": submits,
        "characters": characters,
        "least_seconds": submits / QUOTA,
        "invalid": errors,
        "errors": {str(row.line): row.error for row in problems},
    }
    log.info(
        "Dry run: %s lines, of which %s would be submitted with %s characters, in no less than %.0f seconds (%s a "
        "second); %s lines cannot be submitted as they are. Nothing was submitted",
        lines,
        submits,
        characters,
        submits / QUOTA,
        QUOTA,
        errors,
    )
    names = {"lines": "lines", "to_submit": "to submit", "characters": "characters to pay for"}
    table = ["| | |", "|---|---:|", *(f"| {name} | {told[key]:,} |" for key, name in names.items())]
    table += [f"| least seconds | {told['least_seconds']:,.0f} |", f"| invalid | {errors:,} |"]
    return told, "\n".join(table) + (f"\n\n{problem_table(problems, errors)}" if errors else "")


def _judged(line: Any, ledger: Ledger, options: BatchOptions) -> Row:
    """Return the row of a line: pending where it would be submitted."""
    if isinstance(line, BrokenLine):
        return Row(line.id, line.number, LineStatus.INVALID, error=line.error)
    known = ledger.find(line.id)
    if known is not None and known.line is not None:
        error = f"the id {line.id!r} is the one of line {known.line} already."
        return Row(line.id, line.number, LineStatus.INVALID, error=error)
    try:
        request = line.request(options.defaults, options.manifest)
    except AirflowException as error:
        return Row(line.id, line.number, LineStatus.INVALID, error=str(error))
    fingerprint = request.fingerprint(options.mps_conn_id, options.region)
    if next_step(known, fingerprint, options.on_unknown) is Step.SUBMIT:
        return Row(line.id, line.number, LineStatus.PENDING, characters=len(request.text), request=fingerprint)
    status = known.status if known else LineStatus.PENDING
    return Row(line.id, line.number, status, request=fingerprint)
