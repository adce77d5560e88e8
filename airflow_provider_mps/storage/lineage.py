"""Report the source and destination of stored audio to OpenLineage and Airflow's lineage collector."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_mps.assets import encode_path, encode_uri
from airflow_provider_mps.storage.destination import is_local
from airflow_provider_mps.version_compat import make_uri

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage


@dataclass(frozen=True)
class TransferLineage:
    """One stored audio."""

    source: str
    """The URL of the audio, without credentials and query (the signature)."""
    path: ObjectStoragePath
    size: int
    """Bytes."""

    @classmethod
    def from_audio_url(cls, audio_url: str, path: ObjectStoragePath, size: int) -> TransferLineage:
        """Remove the secret parts of the URL."""
        parts = urlsplit(audio_url)
        host = parts.netloc.rpartition("@")[2]
        return cls(f"{parts.scheme}://{host}{encode_path(parts.path, may_be_encoded=True)}", path, size)

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """
        Return the lineage for OpenLineage's listener, the only caller: without it, the package may not be installed.

        Datasets are named as in https://openlineage.io/docs/spec/naming.
        """
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage

        scheme, _, rest = self.source.partition("://")
        host, _, name = rest.partition("/")
        container, _, key = self.path.path.lstrip("/").partition("/")
        namespace = f"{self.path.protocol}://{container}"
        if is_local(self.path):
            namespace, key = "file", self.path.path
        statistics = OutputStatisticsOutputDatasetFacet(size=self.size, fileCount=1)
        return OperatorLineage(
            inputs=[Dataset(namespace=f"{scheme}://{host}", name=f"/{name}")],
            outputs=[OutputDataset(namespace=namespace, name=key, outputFacets={"outputStatistics": statistics})],
        )

    def collect(self, hook: Any) -> None:
        """Add the assets to Airflow's lineage collector, which ignores them if no plugin reads lineage."""
        collector = get_hook_lineage_collector()
        with suppress(ValueError):  # Airflow rejects some URIs, e.g. long ones; the audio is stored anyway
            collector.add_input_asset(context=hook, uri=self.source)
            collector.add_output_asset(context=hook, uri=encode_uri(make_uri(self.path)))
