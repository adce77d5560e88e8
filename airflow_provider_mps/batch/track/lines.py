"""Read the result manifest of a batch, and find the lines without audio."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.results import Results, parse_rows
from airflow_provider_mps.batch.row import LineStatus
from airflow_provider_mps.batch.track.options import OnMissing, make_path_key
from airflow_provider_mps.batch.track.timeline import list_ids, uses_cues
from airflow_provider_mps.exceptions import DestinationError, InvalidRequestError
from airflow_provider_mps.redaction import describe_error, get_safe_cause, quote_value
from airflow_provider_mps.storage.errors import translate_storage_errors
from airflow_provider_mps.storage.objects import list_objects
from airflow_provider_mps.storage.text_file import parse_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.batch.track.options import TrackOptions


@dataclass
class BatchLines:
    """The lines of a batch, in the order of a track."""

    on_cues: bool = False
    """Whether each clip begins at its ``start``."""
    clips: list[Row] = field(default_factory=list)
    """Lines with audio."""
    missing: list[Row] = field(default_factory=list)
    """Lines without audio."""
    unlisted: int = 0
    """Lines of an unfinished batch that its result manifest does not have yet."""
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def voice_id(self) -> str | None:
        """The voice of all clips; ``None`` if there are several."""
        voices = {row.voice_id for row in self.clips}
        return voices.pop() if len(voices) == 1 else None

    @property
    def last_end(self) -> float:
        """When the last line without audio ends, in seconds."""
        return max((row.end or row.start or 0.0 for row in self.missing), default=0.0)


def read_lines(options: TrackOptions, log: Any) -> BatchLines:
    """
    Read the rows of the batch, and check that a track can be made of them.

    :raises InvalidRequestError: if there is no audio, only some lines have a ``start``, or a path to write is one of
        the batch's files
    :raises AirflowFailException: if lines have no audio, and ``on_missing`` is ``fail``
    """
    lines = BatchLines(summary=_read_summary(options.results))
    earlier = 0
    for row in _read_rows(options.results):
        if row.line is None:
            earlier += 1
        elif row.status is LineStatus.STORED and row.id is not None and _has_path(row, options.results):
            lines.clips.append(row)
        else:
            lines.missing.append(row)
    if earlier:
        log.info("Ignoring %s lines of an earlier manifest in %s", f"{earlier:,}", options.results)
    _move_removed_clips(lines)
    if lines.summary.get("finished") is False:
        total = lines.summary.get("lines")
        listed = earlier + len(lines.clips) + len(lines.missing)
        lines.unlisted = max(0, total - listed) if type(total) is int else 0
    _check_missing(lines, options, log)
    lines.on_cues = uses_cues(lines.clips, options.timeline)
    lines.clips.sort(key=lambda row: ((row.start or 0.0) if lines.on_cues else 0.0, row.line or 0))
    _validate_targets(lines, options)
    return lines


def _read_summary(results: ObjectStoragePath) -> dict[str, Any]:
    try:
        return Results(results.parent).read_summary()
    except DestinationError:  # another file of that name, or no permission: subtitles then need `manifest`
        return {}


def _read_rows(results: ObjectStoragePath) -> Iterator[Row]:
    with translate_storage_errors(results, action="read"):
        try:
            file = results.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise InvalidRequestError(
                f"There is no {results}: nothing was assembled. results must be the results.jsonl of a batch, its "
                "folder, or what the batch operator returned."
            ) from error
        with file:
            try:
                yield from parse_rows(file)
            except (ValueError, RecursionError) as error:
                raise InvalidRequestError(
                    f"{results} is not a result manifest of a batch ({describe_error(error)}): nothing was assembled."
                ) from error


def _has_path(row: Row, results: ObjectStoragePath) -> bool:
    """
    Return whether a row has the path of its audio.

    :raises InvalidRequestError: if it is not a path, as after an edit of the file
    """
    try:
        return row.path is not None and parse_path(row.path) is not None
    except ValueError as error:
        raise InvalidRequestError(
            f"The path of line {row.id} in {results} is {quote_value(row.path, 200)}, which is not one: nothing was "
            "assembled. Restore the file, or run the batch again."
        ) from get_safe_cause(error)


def _move_removed_clips(lines: BatchLines) -> None:
    """Count the lines whose audio is gone as missing; needs one request for each thousand clips of a folder."""
    folders: dict[str, tuple[ObjectStoragePath, list[Row]]] = {}
    for row in lines.clips:
        folder = parse_path(row.path or "").parent
        folders.setdefault(str(folder), (folder, []))[1].append(row)
    removed: set[int | None] = set()
    for folder, rows in folders.values():
        try:
            names = {path.name for path in list_objects(folder)}
        except DestinationError:  # there is no permission to list; a clip that is gone is found when it is read
            continue
        removed |= {row.line for row in rows if parse_path(row.path or "").name not in names}
    if removed:
        lines.missing += [row for row in lines.clips if row.line in removed]
        lines.missing.sort(key=lambda row: row.line or 0)
        lines.clips = [row for row in lines.clips if row.line not in removed]


def _check_missing(lines: BatchLines, options: TrackOptions, log: Any) -> None:
    """Fail if lines have no audio, or log it with ``on_missing="silence"``."""
    missing = len(lines.missing) + lines.unlisted
    if not lines.clips:
        raise InvalidRequestError(
            f"No line of {options.results} has stored audio, of {missing:,} lines: nothing was assembled. Run the "
            "batch first."
        )
    if not missing:
        return
    total = missing + len(lines.clips)
    listed = list_ids(lines.missing) or "they are not submitted yet"
    if options.on_missing is OnMissing.FAIL:
        # A batch keeps a stored row, and does not look for its clip.
        removed = list_ids([row for row in lines.missing if row.status is LineStatus.STORED])
        hint = (
            f"Clips were removed: set the status of {removed} in {options.results} to store_failed. " if removed else ""
        )
        raise AirflowFailException(
            f"{missing:,} of {total:,} lines have no audio: {listed}. Nothing was assembled. {hint}Run the batch again "
            "until all lines are stored, or set on_missing='silence'."
        )
    log.warning("%s of %s lines have no audio and are left out: %s", f"{missing:,}", f"{total:,}", listed)


def _validate_targets(lines: BatchLines, options: TrackOptions) -> None:
    """Check that neither the track nor its subtitles replace a clip, or the manifest that the batch has read."""
    targets = {"destination": options.destination, "subtitles": options.subtitles}
    names = {make_path_key(path): name for name, path in targets.items() if path is not None}
    manifest = None
    with suppress(ValueError):  # another program has written the summary
        manifest = parse_path(lines.summary.get("manifest") or "")
    if manifest is not None and (name := names.get(make_path_key(manifest))):
        raise InvalidRequestError(
            f"{name} is {manifest}, the manifest of the batch: nothing was assembled. Choose another path."
        )
    for row in lines.clips:
        if name := names.get(make_path_key(parse_path(row.path or ""))):
            raise InvalidRequestError(
                f"{name} is {row.path}, the clip of line {row.id}: nothing was assembled. Choose another path."
            )
