"""The base of the operators that store one clip in object storage."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_mps.hooks.mps import make_hook
from airflow_provider_mps.storage.deadline import TransferCancellation
from airflow_provider_mps.version_compat import LiteralMappedValuesMixin, make_uri

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.storage.if_exists import IfExists
    from airflow_provider_mps.storage.lineage import TransferLineage
    from airflow_provider_mps.storage.transfer import StoredAudio


class StoreOperator(LiteralMappedValuesMixin, BaseOperator):
    """
    Store one clip, push its XComs, and report its lineage and asset events.

    A subclass sets the attributes in its constructor, and calls :meth:`finish` with the stored clip.
    """

    destination: str | ObjectStoragePath
    if_exists: IfExists
    transfer_timeout: float
    partition_key: str | None
    mps_conn_id: str
    region: str | None

    ui_color = "#e4f5e7"

    def __init__(self, **kwargs: Any) -> None:
        # Without this constructor, Airflow wraps BaseOperator's twice, and a mapped task lacks the attribute `inlets`.
        super().__init__(**kwargs)
        self._cancellation = TransferCancellation()
        self._lineage: TransferLineage | None = None
        self.stored_at: ObjectStoragePath | None = None

    @cached_property
    def hook(self) -> MpsHook:
        """The hook, kept while this task runs."""
        return make_hook(self)

    def finish(
        self,
        context: Context,
        path: ObjectStoragePath,
        audio: StoredAudio,
        *,
        source: str,
        voice_id: str | None,
        duration: float | None,
        text_path: ObjectStoragePath | None = None,
    ) -> str:
        """
        Push ``VoiceId`` and ``duration``, report lineage and asset events, and return the stored path.

        :param source: URL of the audio, or of the API that returned it; its query is not reported
        :param duration: seconds; ``None`` if MPS does not report them
        :param text_path: the file with the text, if this task has read one
        """
        from airflow_provider_mps.storage.asset_events import add_asset_events, parse_partition_key
        from airflow_provider_mps.storage.lineage import TransferLineage

        context["ti"].xcom_push(key="VoiceId", value=voice_id)
        context["ti"].xcom_push(key="duration", value=duration)
        if not audio.is_kept:
            self.hook.metrics.count_stored(audio.size, duration)
        self.stored_at = path
        self._lineage = TransferLineage.from_audio_url(source, path, audio.size, duration, text_path)
        self._lineage.collect(self.hook)
        extra = {
            "VoiceId": voice_id,
            "duration": duration,
            "size": audio.size,
            # Digits, since a browser would round the number.
            "crc64": None if audio.crc64 is None else str(audio.crc64),
        }
        key = parse_partition_key(self.partition_key, self.outlets)
        add_asset_events(context, self.outlets, make_uri(path), extra, key, self.log)
        return str(path)

    def on_kill(self) -> None:
        """Cancel the transfer and discard the uploaded parts."""
        self._cancellation.cancel()

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Return the source, without the URL's signature, and the destination of the audio."""
        return self._lineage.to_openlineage() if self._lineage else None
