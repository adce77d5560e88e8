"""OpenLineage's facets and datasets for files. Only its listener imports this: the package may not be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.common.compat.openlineage.facet import (
    Dataset,
    InputDataset,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    RunFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage

from airflow_provider_mps.storage.destination import is_local

try:
    from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet
except ImportError:  # an older client
    InputStatisticsInputDatasetFacet = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_mps.storage.lineage import FileSet, SpeechCounts

FACET_NAME = "mps_counts"


@attr.define
class MpsCountsRunFacet(RunFacet):
    """What a task has made; ``None``: it does not apply."""

    clips: int | None = None
    lines: int | None = None
    failed: int | None = None
    characters: int | None = None
    seconds: float | None = None


def make_operator_lineage(
    inputs: Iterable[FileSet | tuple[str, str]], outputs: Iterable[FileSet], counts: SpeechCounts
) -> OperatorLineage[Any, Any]:
    """
    Return what OpenLineage's listener reports. Datasets are named as in https://openlineage.io/docs/spec/naming.

    :param inputs: files, or namespaces and names of what is no file
    """
    return OperatorLineage(
        inputs=[Dataset(*each) if isinstance(each, tuple) else _make_input(each) for each in inputs],
        outputs=[_make_output(each) for each in outputs],
        run_facets={FACET_NAME: MpsCountsRunFacet(**vars(counts))},
    )


def _make_input(files: FileSet) -> InputDataset:
    namespace, name = _name_dataset(files.path)
    facets: dict[str, Any] = {}
    if InputStatisticsInputDatasetFacet is not None and files.rows is not None:
        facets["inputStatistics"] = InputStatisticsInputDatasetFacet(rowCount=files.rows, fileCount=files.files)
    return InputDataset(namespace=namespace, name=name, inputFacets=facets)


def _make_output(files: FileSet) -> OutputDataset:
    namespace, name = _name_dataset(files.path)
    statistics = OutputStatisticsOutputDatasetFacet(rowCount=files.rows, size=files.size, fileCount=files.files)
    return OutputDataset(namespace=namespace, name=name, outputFacets={"outputStatistics": statistics})


def _name_dataset(path: ObjectStoragePath) -> tuple[str, str]:
    """Return namespace and name of a file or a folder."""
    if is_local(path):
        return "file", path.path
    container, _, key = path.path.strip("/").partition("/")
    return f"{path.protocol}://{container}", key or "/"
