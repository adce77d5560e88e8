"""Read a manifest: JSON Lines, CSV or subtitles; an invalid line does not affect the others."""

from __future__ import annotations

import codecs
import csv
import io
import json
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.line import FIELDS, InvalidLine, ManifestLine
from airflow_provider_mps.batch.subtitles import is_subtitle_path, read_subtitles
from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause, quote_value
from airflow_provider_mps.speech.parsing import JsonFloat
from airflow_provider_mps.storage.errors import is_permission_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.batch.subtitles import SubtitleStatistics

READ_BUFFER_BYTES = 1024 * 1024
MAX_LINE_BYTES = 12 * 1024 * 1024
"""More than a request to Tencent Cloud's API can hold."""
_HEAD_BYTES = 4096
"""Start of the file, from which its format is detected."""
_OTHER_SUBTITLES = (".ass", ".ssa", ".sub", ".sbv", ".smi", ".ttml", ".dfxp")
"""Suffixes of subtitle formats that a batch does not read."""
_WIDE_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def read_manifest(
    path: ObjectStoragePath,
    subtitle_encoding: str | None = None,
    report_subtitles: Callable[[SubtitleStatistics], None] = lambda _: None,
) -> Iterator[ManifestLine | InvalidLine]:
    """
    Read the lines of a manifest one by one, without its empty lines.

    :param path: subtitles if its name ends in ``.srt`` or ``.vtt``; CSV with a header if it ends in ``.csv``; otherwise
        JSON Lines if it starts with ``{``, else CSV
    :param subtitle_encoding: encoding of a subtitle file; ``None`` to detect it
    :param report_subtitles: called before the first line of a subtitle file
    :raises InvalidRequestError: when it does not exist, or is not a manifest
    :raises AirflowException: when reading it failed; a retry may succeed
    """
    name = format_path(path)
    if str(path).lower().endswith(_OTHER_SUBTITLES):
        raise InvalidRequestError(
            f"The manifest {name} is a subtitle file of a format that a batch does not read: nothing was submitted. "
            "Convert it to .srt or .vtt."
        )
    try:
        with path.open("rb") as file:
            if is_subtitle_path(path):
                yield from read_subtitles(file, name, subtitle_encoding, report_subtitles)
                return
            is_csv = str(path).lower().endswith(".csv")
            yield from _read_lines(io.BufferedReader(_RawFile(file), READ_BUFFER_BYTES), name, is_csv=is_csv)
    except InvalidRequestError:
        raise
    except Exception as error:  # noqa: BLE001 - translated
        reason, cause = describe_error(error), get_safe_cause(error)
        if isinstance(error, FileNotFoundError | IsADirectoryError | ValueError | ImportError):
            raise InvalidRequestError(f"The manifest {name} cannot be read ({reason}).") from cause
        if is_permission_error(error):
            raise InvalidRequestError(
                f"There is no permission to read the manifest {name} ({reason}). Grant it to the account of the "
                "worker, or to the connection in the path."
            ) from cause
        raise AirflowException(
            f"Reading the manifest {name} failed before its end ({reason}). A retry resumes the batch."
        ) from cause


class _RawFile(io.RawIOBase):
    """Adapt a file of any fsspec filesystem for ``io.BufferedReader``; some ignore the limit of ``readline``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _read_lines(file: io.BufferedReader, name: str, *, is_csv: bool) -> Iterator[ManifestLine | InvalidLine]:
    head = file.peek(4)
    if head.startswith(_WIDE_BOMS):
        raise InvalidRequestError(f"The manifest {name} is UTF-16 or UTF-32: save it as UTF-8.")
    if b"\0" in file.peek(_HEAD_BYTES)[:_HEAD_BYTES].partition(b"\n")[0]:
        raise InvalidRequestError(
            f"The manifest {name} has NUL bytes, as UTF-16 and office documents do: save it as text in UTF-8."
        )
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    first = file.peek(_HEAD_BYTES).lstrip()[:1]
    if is_csv or first not in {b"[", b"{", b""}:
        return _read_csv(file, name)
    if first == b"[":
        raise InvalidRequestError(f"The manifest {name} is a JSON array: write one JSON object per line.")
    return _read_json_lines(file)


def _read_json_lines(file: IO[bytes]) -> Iterator[ManifestLine | InvalidLine]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield InvalidLine(number, f"the line has more than {MAX_LINE_BYTES} bytes, the limit of a request.")
        elif raw.strip():
            line: ManifestLine | InvalidLine
            try:
                line = ManifestLine.parse(number, json.loads(raw.decode(), parse_float=JsonFloat))
            except InvalidRequestError as error:
                line = InvalidLine(number, str(error))
            except UnicodeDecodeError as error:
                line = InvalidLine(number, f"the line is not UTF-8 (byte {error.start + 1}).")
            except (ValueError, RecursionError) as error:
                line = InvalidLine(number, f"the line is not JSON ({error}).")
            yield line


def _read_csv(file: IO[bytes], name: str) -> Iterator[ManifestLine | InvalidLine]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    header = _parse_header(reader, name)
    while True:
        number = reader.line_num + 1
        line: ManifestLine | InvalidLine | None
        try:
            cells = next(reader)
            line = ManifestLine.parse(number, _parse_cells(header, cells)) if any(cells) else None
        except StopIteration:
            text.detach()
            return
        except csv.Error as error:
            line = InvalidLine(number, f"the line is not CSV ({error}){_format_span(number, reader.line_num)}.")
        except InvalidRequestError as error:
            line = InvalidLine(number, f"{error}{_format_span(number, reader.line_num)}")
        if line:
            yield line


def _format_span(first: int, last: int) -> str:
    """Return a hint for an error of cells that span several lines, as they do after an unclosed quote."""
    return f" [it spans lines {first} to {last}: is a closing quote missing?]" if last > first else ""


def _parse_header(reader: Any, name: str) -> list[str]:
    try:
        header = [cell.strip() for cell in next(filter(any, reader), [])]
    except csv.Error as error:
        raise InvalidRequestError(f"The manifest {name} is not CSV ({error}).") from error
    columns = [column for column in header if column]  # Excel pads lines with empty cells
    if not header or ("id" in columns and set(columns) <= set(FIELDS) and len(set(columns)) == len(columns)):
        return header
    unknown = [column for column in columns if column not in FIELDS]
    problem = f"an unknown column {quote_value(unknown[0])}" if unknown else "no column 'id', or a duplicate column"
    raise InvalidRequestError(
        f"The manifest {name} has {problem}. Its first line must name its columns, separated by commas: id, text or "
        f"text_path, and any of {', '.join(FIELDS[3:])}."
    )


def _parse_cells(header: list[str], cells: list[str]) -> dict[str, str]:
    header = header + [""] * (len(cells) - len(header))
    for place, (column, cell) in enumerate(zip(header, cells, strict=False), 1):
        if not column and cell.strip():
            raise InvalidRequestError(
                f"the line has {len(cells)} cells, and the header has no column name for cell {place}."
            )
    try:
        "".join(cells).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError("the line is not UTF-8.") from error
    return {column: cell for column, cell in zip(header, cells, strict=False) if column}
