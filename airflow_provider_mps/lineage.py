"""Where an audio came from and went to, for OpenLineage and whoever else collects lineage. Never a signature."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_mps.assets import encode_path, encode_uri
from airflow_provider_mps.older_airflow import uri_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage


@dataclass(frozen=True)
class Move:
    """One audio that is at its destination now."""

    source: str
    """The link without its query, which is a signature."""
    path: ObjectStoragePath
    size: int
    """Bytes."""

    @classmethod
    def of(cls, audio_url: str, path: ObjectStoragePath, size: int) -> Move:
        """Forget what is secret in the link."""
        parts = urlsplit(audio_url)
        host = parts.netloc.rpartition("@")[2]
        return cls(f"{parts.scheme}://{host}{encode_path(parts.path, may_be_encoded=True)}", path, size)

    @property
    def destination(self) -> tuple[str, str]:
        """OpenLineage's namespace and name of the destination."""
        container, _, key = self.path.path.lstrip("/").partition("/")
        if self.path.protocol in {"", "file", "local"}:
            return "file", self.path.path
        return f"{self.path.protocol}://{container}", key

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return what OpenLineage's listener asks an operator for; only it calls this, so only there it is imported."""
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage

        scheme, _, rest = self.source.partition("://")
        host, _, name = rest.partition("/")
        namespace, key = self.destination
        statistics = OutputStatisticsOutputDatasetFacet(size=self.size, fileCount=1)
        return OperatorLineage(
            inputs=[Dataset(namespace=f"{scheme}://{host}", name=f"/{name}")],
            outputs=[OutputDataset(namespace=namespace, name=key, outputFacets={"outputStatistics": statistics})],
        )

    def collect(self, hook: Any) -> None:
        """Tell Airflow's own collector, which does nothing where nobody reads it."""
        collector = get_hook_lineage_collector()
        with suppress(ValueError):  # Airflow takes no asset of such a URI, e.g. a longer one; the audio is stored
            collector.add_input_asset(context=hook, uri=self.source)
            collector.add_output_asset(context=hook, uri=encode_uri(uri_of(self.path)))
