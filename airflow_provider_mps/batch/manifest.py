"""Read a manifest, JSON Lines or CSV, line by line: a broken line does not keep the others from being read."""

from __future__ import annotations

import codecs
import csv
import io
import json
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_mps.batch.line import FIELDS, BrokenLine, ManifestLine
from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.redaction import cause_of, describe_error, quoted, shown_path
from airflow_provider_mps.store_errors import lacks_permission
from airflow_provider_mps.text_value import WrittenNumber

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

READ_AT_ONCE = 1024 * 1024
"""Bytes."""
MAX_LINE = 12 * 1024 * 1024
"""Bytes: more than a request of Tencent's API may have."""
_HEAD = 4096
"""Bytes that decide what kind of file it is."""
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def read_manifest(path: ObjectStoragePath) -> Iterator[ManifestLine | BrokenLine]:
    """
    Read its lines one after the other; empty ones are left out.

    :param path: CSV with a header where it ends in ``.csv``; else JSON Lines where it begins with ``{``, and CSV
        where it does not
    :raises InvalidRequestError: when it is not there, or no manifest
    :raises AirflowException: when it cannot be read this time
    """
    name = shown_path(path)
    try:
        with path.open("rb") as opened:
            yield from _lines(
                io.BufferedReader(_Raw(opened), READ_AT_ONCE), name, is_csv=str(path).lower().endswith(".csv")
            )
    except InvalidRequestError:
        raise
    except (FileNotFoundError, IsADirectoryError, ValueError, ImportError) as error:
        raise InvalidRequestError(f"The manifest {name} cannot be read ({describe_error(error)}).") from cause_of(error)
    except Exception as error:  # noqa: BLE001 - raised as what it means
        problem = describe_error(error)
        if lacks_permission(error):
            raise InvalidRequestError(
                f"The manifest {name} may not be read ({problem}). Grant it to the account that the worker runs with, "
                "or to the connection in the path."
            ) from cause_of(error)
        raise AirflowException(
            f"The manifest {name} could not be read to its end ({problem}). A retry goes on."
        ) from cause_of(error)


class _Raw(io.RawIOBase):
    """Any file of any filesystem, of which some cannot limit how much a line is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _lines(file: io.BufferedReader, name: str, *, is_csv: bool) -> Iterator[ManifestLine | BrokenLine]:
    head = file.peek(4)
    if head.startswith(_WIDE):
        raise InvalidRequestError(f"The manifest {name} is UTF-16 or UTF-32: save it as UTF-8.")
    if b"\0" in file.peek(_HEAD)[:_HEAD].partition(b"\n")[0]:
        raise InvalidRequestError(
            f"The manifest {name} is no text in UTF-8: it has NUL bytes, as UTF-16 and office documents do. Save it as "
            "UTF-8."
        )
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    if is_csv:
        return _csv_lines(file, name)
    first = file.peek(_HEAD).lstrip()[:1]
    if first == b"[":
        raise InvalidRequestError(f"The manifest {name} is a JSON array: write each line as an object of its own.")
    return _json_lines(file) if first in {b"{", b""} else _csv_lines(file, name)


def _json_lines(file: IO[bytes]) -> Iterator[ManifestLine | BrokenLine]:
    number = 0
    while raw := file.readline(MAX_LINE):
        number += 1
        if len(raw) == MAX_LINE and not raw.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield BrokenLine(number, f"the line has more than {MAX_LINE} bytes, which no request can hold.")
        elif raw.strip():
            yield _json_line(number, raw)


def _json_line(number: int, raw: bytes) -> ManifestLine | BrokenLine:
    try:
        return ManifestLine.parse(number, json.loads(raw.decode(), parse_float=WrittenNumber))
    except InvalidRequestError as error:
        return BrokenLine(number, str(error))
    except UnicodeDecodeError as error:
        return BrokenLine(number, f"the line is not UTF-8 (byte {error.start + 1}).")
    except (ValueError, RecursionError) as error:
        return BrokenLine(number, f"the line is not JSON ({error}).")


def _csv_lines(file: IO[bytes], name: str) -> Iterator[ManifestLine | BrokenLine]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, strict=True)
    header = _header(reader, name)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            text.detach()
            return
        except csv.Error as error:
            yield BrokenLine(number, f"the line is not CSV ({error}){_to_line(number, reader.line_num)}.")
            continue
        if any(cells):
            line = _csv_line(number, header, cells)
            if isinstance(line, BrokenLine):
                line = replace(line, error=f"{line.error}{_to_line(number, reader.line_num)}")
            yield line


def _to_line(first: int, last: int) -> str:
    """Return what to add to an error of cells that go over several lines, as after a quote that nobody has closed."""
    return f" [it takes in all lines to {last}: is a quote not closed?]" if last > first else ""


def _header(reader: Any, name: str) -> list[str]:
    try:
        header = [cell.strip() for cell in next(filter(any, reader), [])]
    except csv.Error as error:
        raise InvalidRequestError(f"The manifest {name} is not CSV ({error}).") from error
    if not header:
        return header  # it is empty
    named = [column for column in header if column]  # Excel pads lines with empty cells
    unknown = [column for column in named if column not in FIELDS]
    if "id" not in named or unknown or len(set(named)) != len(named):
        problem = f"an unknown column {quoted(unknown[0])}" if unknown else "no column 'id', or one of them twice"
        raise InvalidRequestError(
            f"The manifest {name} has {problem}. Its first line must name its columns, separated by commas: id, text "
            f"or text_path, and any of {', '.join(FIELDS[3:])}."
        )
    return header


def _csv_line(number: int, header: list[str], cells: list[str]) -> ManifestLine | BrokenLine:
    header = header + [""] * (len(cells) - len(header))
    unnamed = [
        place for place, (name, cell) in enumerate(zip(header, cells, strict=False), 1) if not name and cell.strip()
    ]
    if unnamed:
        return BrokenLine(
            number, f"the line has {len(cells)} cells, and the first one gives cell {unnamed[0]} no column's name."
        )
    try:
        for cell in cells:
            cell.encode()
        return ManifestLine.parse(number, {name: cell for name, cell in zip(header, cells, strict=False) if name})
    except UnicodeEncodeError:
        return BrokenLine(number, "the line is not UTF-8.")
    except InvalidRequestError as error:
        return BrokenLine(number, str(error))
