"""Translate errors of temporary files."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_mps.exceptions import AudioTransferError
from airflow_provider_mps.storage.errors import is_storage_full

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translate_temporary_errors(content: str) -> Iterator[None]:
    """
    Raise an error of the operating system as an :class:`AudioTransferError` that names the temporary folder.

    :param content: what is written there, for the error
    """
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir() if tempfile.tempdir else "of this machine"
        problem = "is full" if is_storage_full(error) else f"cannot be used ({error})"
        raise AudioTransferError(
            f"The temporary folder {folder} {problem}, so no track was stored. It needs room for the whole track and "
            f"{content}. Free some space, or set TMPDIR to a larger disk."
        ) from error
