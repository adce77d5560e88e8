"""Unnamed temporary files, of which even a killed process leaves nothing behind."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from airflow_provider_mps.exceptions import AudioTransferError
from airflow_provider_mps.storage.errors import is_storage_full

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_temporary_file() -> IO[bytes]:
    """Return a new file. It has no buffer, because libsndfile reads and writes it by its descriptor."""
    with translate_temporary_errors():
        return tempfile.TemporaryFile(buffering=0)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all bytes; a file without a buffer may write only some of them."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def translate_temporary_errors() -> Iterator[None]:
    """Raise an error of the operating system as an :class:`AudioTransferError` that names the temporary folder."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "of this machine"
        problem = "is full" if is_storage_full(error) else f"cannot be used ({error})"
        raise AudioTransferError(
            f"The temporary folder {folder} {problem}, so no track was stored. It needs room for the whole track and "
            "some clips. Free some space, or set TMPDIR to a larger disk."
        ) from error
