"""What a batch is to do."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_mps.batch.line import OWN_NAMES, Defaults
from airflow_provider_mps.errors import InvalidRequestError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.choice import OnUnknown
    from airflow_provider_mps.intervals import PollInterval


@dataclass(frozen=True)
class BatchOptions:
    """What a batch is to do."""

    manifest: ObjectStoragePath
    destination: ObjectStoragePath
    mps_conn_id: str
    region: str | None
    interval: PollInterval
    transfer_timeout: float
    on_unknown: OnUnknown
    resume: bool = True
    """Whether to go on with what another run has left in the destination."""
    hand_over_after: float | None = None
    """Seconds for which nothing but waiting happens before the waiting is left to the triggerer; ``None``: never."""
    defaults: Defaults = field(default_factory=Defaults)

    def require_manifest_apart(self) -> None:
        """
        Refuse a manifest that stands where the batch writes: it would be overwritten before it is read.

        :raises InvalidRequestError: when it does
        """
        manifest, destination = (posixpath.normpath(path.path) for path in (self.manifest, self.destination))
        if manifest.startswith(destination + "/") and manifest[len(destination) + 1 :].partition("/")[0] in OWN_NAMES:
            raise InvalidRequestError(
                f"manifest is {self.manifest}, where the results of this destination are written: nothing was "
                "submitted. Give the manifest another name, or choose another destination."
            )
