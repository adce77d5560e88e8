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
        scheme, _, rest = self.source.partition("://")
        host, _, name = rest.partition("/")
        return _make_lineage((f"{scheme}://{host}", f"/{name}"), [(self.path, self.size)])

    def collect(self, hook: Any) -> None:
        """Add the assets to Airflow's lineage collector, which ignores them if no plugin reads lineage."""
        _collect(hook, self.source, [self.path])


@dataclass(frozen=True)
class FileLineage:
    """Files that were made of another file."""

    source: ObjectStoragePath
    outputs: list[tuple[ObjectStoragePath, int]]
    """Each with its size in bytes."""

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return the lineage for OpenLineage's listener, the only caller."""
        return _make_lineage(_name_dataset(self.source), self.outputs)

    def collect(self, operator: Any) -> None:
        """Add the assets to Airflow's lineage collector."""
        _collect(operator, encode_uri(make_uri(self.source)), [path for path, _ in self.outputs])


def _name_dataset(path: ObjectStoragePath) -> tuple[str, str]:
    """Return namespace and name of a file."""
    container, _, key = path.path.lstrip("/").partition("/")
    return ("file", path.path) if is_local(path) else (f"{path.protocol}://{container}", key)


def _make_lineage(source: tuple[str, str], outputs: list[tuple[ObjectStoragePath, int]]) -> OperatorLineage[Any, Any]:
    from airflow.providers.common.compat.openlineage.facet import (
        Dataset,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    datasets = []
    for path, size in outputs:
        namespace, name = _name_dataset(path)
        statistics = OutputStatisticsOutputDatasetFacet(size=size, fileCount=1)
        datasets.append(OutputDataset(namespace=namespace, name=name, outputFacets={"outputStatistics": statistics}))
    return OperatorLineage(inputs=[Dataset(namespace=source[0], name=source[1])], outputs=datasets)


def _collect(context: Any, source: str, paths: list[ObjectStoragePath]) -> None:
    collector = get_hook_lineage_collector()
    with suppress(ValueError):  # Airflow rejects some URIs, e.g. long ones; the audio is stored anyway
        collector.add_input_asset(context=context, uri=source)
        for path in paths:
            collector.add_output_asset(context=context, uri=encode_uri(make_uri(path)))
