"""Report what was read and stored to OpenLineage and Airflow's lineage collector."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_mps.assets import encode_path, encode_uri
from airflow_provider_mps.redaction import describe_error
from airflow_provider_mps.version_compat import make_uri

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeechCounts:
    """What a task has made; ``None``: it does not apply."""

    clips: int | None = None
    """Stored, or used for a track."""
    lines: int | None = None
    """Of the manifest."""
    failed: int | None = None
    """Lines without audio."""
    characters: int | None = None
    """That MPS has accepted."""
    seconds: float | None = None
    """Of audio."""


@dataclass(frozen=True)
class FileSet:
    """A file, or a folder with several files."""

    path: ObjectStoragePath
    size: int | None = None
    """Bytes; ``None`` if they were not counted."""
    files: int = 1
    rows: int | None = None
    """Lines of a manifest; ``None`` for other files."""


@dataclass(frozen=True)
class TransferLineage:
    """One stored audio."""

    source: str
    """The URL of the audio, without credentials and query (the signature)."""
    path: ObjectStoragePath
    size: int
    """Bytes."""
    duration: float | None = None
    """Seconds; ``None`` if MPS does not report them."""
    text_path: ObjectStoragePath | None = None
    """The file with the text that MPS has spoken, if the task has read one."""

    @classmethod
    def from_audio_url(
        cls,
        audio_url: str,
        path: ObjectStoragePath,
        size: int,
        duration: float | None = None,
        text_path: ObjectStoragePath | None = None,
    ) -> TransferLineage:
        """Remove the secret parts of the URL."""
        parts = urlsplit(audio_url)
        host = parts.netloc.rpartition("@")[2]
        source = f"{parts.scheme}://{host}{encode_path(parts.path, may_be_encoded=True)}"
        return cls(source, path, size, duration, text_path)

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return the lineage for OpenLineage's listener, the only caller."""
        from airflow_provider_mps.storage.lineage_facets import make_operator_lineage

        scheme, _, rest = self.source.partition("://")
        host, _, name = rest.partition("/")
        inputs: list[FileSet | tuple[str, str]] = [(f"{scheme}://{host}", f"/{name}")]
        if self.text_path is not None:
            inputs.append(FileSet(self.text_path))
        counts = SpeechCounts(clips=1, seconds=self.duration)
        return make_operator_lineage(inputs, [FileSet(self.path, self.size)], counts)

    def collect(self, hook: Any) -> None:
        """Add the assets to Airflow's lineage collector, which ignores them if no plugin reads lineage."""
        texts = [] if self.text_path is None else [self.text_path]
        _collect(hook, [self.source, *map(_encode, texts)], [self.path])


@dataclass(frozen=True)
class FileLineage:
    """Files that were made of another file."""

    source: FileSet
    outputs: list[FileSet]
    counts: SpeechCounts = field(default_factory=SpeechCounts)

    def to_openlineage(self) -> OperatorLineage[Any, Any]:
        """Return the lineage for OpenLineage's listener, the only caller."""
        from airflow_provider_mps.storage.lineage_facets import make_operator_lineage

        return make_operator_lineage([self.source], self.outputs, self.counts)

    def collect(self, operator: Any) -> None:
        """Add the assets to Airflow's lineage collector."""
        _collect(operator, [_encode(self.source.path)], [each.path for each in self.outputs])


def _collect(context: Any, sources: list[str], paths: list[ObjectStoragePath]) -> None:
    try:
        collector = get_hook_lineage_collector()
        assets = [(collector.add_input_asset, uri) for uri in sources]
        assets += [(collector.add_output_asset, _encode(path)) for path in paths]
        for add, uri in assets:
            with suppress(ValueError):  # Airflow rejects some URIs, e.g. long ones
                add(context=context, uri=uri)
    except Exception as error:  # noqa: BLE001 - the audio is stored, whatever a plugin does with lineage
        log.warning("Airflow's lineage collector failed, so it lacks the stored audio: %s", describe_error(error))


def _encode(path: ObjectStoragePath) -> str:
    return encode_uri(make_uri(path))
