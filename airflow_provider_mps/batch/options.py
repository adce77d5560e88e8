"""The arguments of a batch, parsed."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_mps.batch.line import RESERVED_NAMES, LineDefaults
from airflow_provider_mps.exceptions import InvalidRequestError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.polling.intervals import PollInterval
    from airflow_provider_mps.speech.arguments import OnUnknown


@dataclass(frozen=True)
class BatchOptions:
    """The arguments of a batch, parsed."""

    manifest: ObjectStoragePath
    destination: ObjectStoragePath
    mps_conn_id: str
    region: str | None
    interval: PollInterval
    transfer_timeout: float
    """Seconds that storing one line may take."""
    on_unknown: OnUnknown
    resume: bool = True
    """Whether to continue from the results of another run in the destination."""
    defer_after: float | None = None
    """Seconds of only waiting after which the batch defers; ``None`` for never."""
    defaults: LineDefaults = field(default_factory=LineDefaults)

    def validate_manifest_location(self) -> None:
        """
        Validate that the batch does not overwrite its own manifest.

        :raises InvalidRequestError: when the manifest has a reserved name in the destination
        """
        manifest, destination = (posixpath.normpath(path.path) for path in (self.manifest, self.destination))
        name = manifest.removeprefix(destination + "/").partition("/")[0]
        if manifest.startswith(destination + "/") and name in RESERVED_NAMES:
            raise InvalidRequestError(
                f"manifest is {self.manifest}, where the results of this destination are written: nothing was "
                "submitted. Rename the manifest, or choose another destination."
            )
