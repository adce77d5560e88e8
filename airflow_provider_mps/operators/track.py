"""Assemble the audio of a batch into one track, with subtitles."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.links.text_to_speech import StoredObjectLink
from airflow_provider_mps.speech.parsing import parse_choice
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS, TransferCancellation, parse_timeout
from airflow_provider_mps.version_compat import LiteralMappedValuesMixin, make_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mps.batch.track.assemble import AssembledTrack
    from airflow_provider_mps.batch.track.lines import BatchLines
    from airflow_provider_mps.batch.track.options import TrackOptions
    from airflow_provider_mps.storage.lineage import FileLineage
    from airflow_provider_mps.storage.transfer import StoredAudio

SUBJECT = "the track"


class AssembleTrackOperator(LiteralMappedValuesMixin, BaseOperator):
    """
    Assemble the clips of a batch into one audio file, and write its subtitles.

    If the lines of the batch have a ``start``, e.g. the cues of a subtitle file, each clip begins there. Otherwise the
    clips follow one after another, in the order of the manifest. Each clip is verified by the size and the CRC-64 that
    the batch has recorded. The track is 16-bit mono, and appears at the destination only when it is complete. MPS is
    not called, so nothing is billed. Needs ``pip install airflow-provider-mps[track]``.

    Returns the path of the track, and pushes the XComs ``duration`` (seconds), ``VoiceId`` (of all clips, or ``None``
    if they have several voices) and, if they were written, ``subtitles`` (their path).

    Each outlet that is an ``Asset`` or an ``AssetAlias`` gets an event. Its extra holds ``uri`` (the stored path),
    ``VoiceId``, ``duration`` (seconds), ``size`` (bytes), ``crc64`` (CRC-64/XZ in decimal digits), ``clips`` (how many)
    and ``subtitles`` (their path, or ``None``).

    :param results: ``results.jsonl`` of a batch, its folder, or what
        :class:`~airflow_provider_mps.operators.batch.TextToSpeechBatchOperator` has returned (templated)
    :param destination: the file to write, which ends in ``.wav``, ``.flac`` or ``.mp3`` (templated)
    :param subtitles: a file to write that ends in ``.srt`` or ``.vtt``: the texts of the manifest, with the times at
        which they are heard in the track (templated)
    :param gap: seconds of silence between two clips that follow one another, or before a shifted clip (templated)
    :param overlap: if a clip lasts longer than until the next one begins: ``shift`` the next one, ``cut`` this one, or
        ``fail`` (templated)
    :param on_missing: if lines have no audio: ``fail``, or leave ``silence`` at their place (templated)
    :param timeline: ``True``: each clip begins at its ``start``; ``False``: one after another; ``None``: ``True`` if
        all lines have a ``start``, ``False`` if none has (templated)
    :param sample_rate: sample rate of the track in Hz, to which all clips are converted. Without it, all clips must
        have the same (templated)
    :param manifest: manifest with the texts of the subtitles; the default is the one that the batch has read
        (templated)
    :param subtitle_encoding: encoding of a manifest that ends in ``.srt`` or ``.vtt``; the default is the one that the
        batch was given, or has detected (templated)
    :param if_exists: if there is a file at the destination or at ``subtitles``: ``overwrite`` it, or ``fail``
    :param transfer_timeout: seconds that reading one clip, and storing the track, may take
    :param partition_key: partition of the event of each ``Asset`` in ``outlets``, from Airflow 3.3 (templated)
    :raises InvalidRequestError: if an argument is invalid, or clips have several sample rates; not retried
    :raises AirflowFailException: if lines have no audio, a clip or the manifest has changed since the batch, or clips
        overlap with ``overlap="fail"``; not retried
    :raises DestinationError: if a destination must be fixed first; not retried
    :raises AirflowException: if reading or storing failed this time
    """

    template_fields: Sequence[str] = (
        "results",
        "destination",
        "subtitles",
        "gap",
        "overlap",
        "on_missing",
        "timeline",
        "sample_rate",
        "manifest",
        "subtitle_encoding",
        "partition_key",
    )
    operator_extra_links = (StoredObjectLink(),)
    template_fields_renderers: ClassVar[dict[str, str]] = {"results": "json"}
    ui_color = "#e4ecf5"

    def __init__(
        self,
        *,
        results: str | ObjectStoragePath | Mapping[str, Any],
        destination: str | ObjectStoragePath,
        subtitles: str | ObjectStoragePath | None = None,
        gap: float | str = 0.0,
        overlap: str = "shift",
        on_missing: str = "fail",
        timeline: bool | str | None = None,
        sample_rate: int | str | None = None,
        manifest: str | ObjectStoragePath | None = None,
        subtitle_encoding: str | None = None,
        if_exists: Literal["overwrite", "fail"] = "overwrite",
        transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
        partition_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.results = results
        self.destination = destination
        self.subtitles = subtitles
        self.gap = gap
        self.overlap = overlap
        self.on_missing = on_missing
        self.timeline = timeline
        self.sample_rate = sample_rate
        self.manifest = manifest
        self.subtitle_encoding = subtitle_encoding
        self.if_exists = if_exists
        self.transfer_timeout = transfer_timeout
        self.partition_key = partition_key
        self._cancellation = TransferCancellation()
        self._lineage: FileLineage | None = None
        self.stored_at: ObjectStoragePath | None = None

    def execute(self, context: Context) -> str:
        """Assemble and store the track; return its path."""
        from airflow_provider_mps.storage.asset_events import (
            add_asset_events,
            parse_partition_key,
            validate_asset_outlets,
        )
        from airflow_provider_mps.storage.lineage import FileLineage, FileSet, SpeechCounts

        self._cancellation = TransferCancellation()
        options = self._make_options()
        key = parse_partition_key(self.partition_key, self.outlets)
        _validate_installation(options)
        validate_asset_outlets(self.outlets, make_uri(options.destination), SUBJECT)
        with self._cancellation.active(f"Assembling {SUBJECT} at {options.destination}"):
            audio, lines, track, subtitle_size = self._run(options)
        context["ti"].xcom_push(key="VoiceId", value=lines.voice_id)
        context["ti"].xcom_push(key="duration", value=track.duration)
        outputs = [FileSet(options.destination, audio.size)]
        if options.subtitles is not None:
            context["ti"].xcom_push(key="subtitles", value=str(options.subtitles))
            outputs.append(FileSet(options.subtitles, subtitle_size))
        self.stored_at = options.destination
        failed = len(lines.missing) + lines.unlisted
        rows = len(lines.clips) + failed
        counts = SpeechCounts(clips=track.timeline.clips, lines=rows, failed=failed, seconds=track.duration)
        self._lineage = FileLineage(FileSet(options.results, rows=rows), outputs, counts)
        self._lineage.collect(self)
        extra = {
            "VoiceId": lines.voice_id,
            "duration": track.duration,
            "size": audio.size,
            # Digits, since a browser would round the number.
            "crc64": str(audio.crc64),
            "clips": track.timeline.clips,
            "subtitles": None if options.subtitles is None else str(options.subtitles),
        }
        add_asset_events(context, self.outlets, make_uri(options.destination), extra, key, self.log)
        return str(options.destination)

    def on_kill(self) -> None:
        """Stop assembling or storing; discard the uploaded parts and the temporary files."""
        self._cancellation.cancel()

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Return the result manifest of the batch as the input, and the track and its subtitles as outputs."""
        return self._lineage.to_openlineage() if self._lineage else None

    def _run(self, options: TrackOptions) -> tuple[StoredAudio, BatchLines, AssembledTrack, int]:
        """Check the inputs, assemble and store; return also the size of the subtitles in bytes, 0 without subtitles."""
        from airflow_provider_mps.batch.track.assemble import assemble
        from airflow_provider_mps.batch.track.lines import read_lines
        from airflow_provider_mps.batch.track.subtitle_file import (
            find_encoding,
            find_manifest,
            read_texts,
            store_subtitles,
        )
        from airflow_provider_mps.storage.file import store_file
        from airflow_provider_mps.storage.transfer import validate_destination

        for path in filter(None, (options.destination, options.subtitles)):
            validate_destination(path, options.if_exists, SUBJECT)
        lines = read_lines(options, self.log)
        texts = {}
        if options.subtitles is not None:
            manifest = find_manifest(options.manifest, lines.summary)
            encoding = find_encoding(options.subtitle_encoding, manifest, lines.summary)
            texts = read_texts(manifest, lines.clips, encoding)
        track = assemble(lines, options, self.log)
        with track.file:
            audio = store_file(
                track.file,
                options.destination,
                subject=SUBJECT,
                log=self.log,
                if_exists=options.if_exists,
                timeout=options.transfer_timeout,
            )
        size = 0
        if options.subtitles is not None:
            size = store_subtitles(options.subtitles, track.clips, texts, options.if_exists)
        timeline = track.timeline
        self.log.info(
            "Assembled %s of audio from %s clips: %s lines without audio, %s clips shifted by up to %.3f s, %s cut",
            timedelta(seconds=round(track.duration)),
            f"{timeline.clips:,}",
            f"{len(lines.missing) + lines.unlisted:,}",
            f"{timeline.shifted:,}",
            timeline.largest_shift / timeline.rate,
            f"{timeline.cut:,}",
        )
        return audio, lines, track, size

    def _make_options(self) -> TrackOptions:
        from airflow_provider_mps.batch.subtitle_encoding import parse_encoding
        from airflow_provider_mps.batch.track import options

        destination = options.parse_destination(self.destination)
        return options.TrackOptions(
            results=options.parse_results(self.results),
            destination=destination,
            subtitles=options.parse_optional_path("subtitles", self.subtitles, "s3://conn@bucket/track.srt"),
            gap=options.parse_gap(self.gap),
            overlap=parse_choice(options.Overlap, self.overlap),
            on_missing=parse_choice(options.OnMissing, self.on_missing),
            timeline=options.parse_timeline(self.timeline),
            sample_rate=options.parse_sample_rate(self.sample_rate, destination),
            manifest=options.parse_optional_path("manifest", self.manifest, "s3://conn@bucket/manifest.jsonl"),
            subtitle_encoding=parse_encoding(self.subtitle_encoding),
            if_exists=options.parse_if_exists(self.if_exists),
            transfer_timeout=parse_timeout(self.transfer_timeout),
        )


def _validate_installation(options: TrackOptions) -> None:
    from airflow_provider_mps.batch.track.options import AUDIO_SUFFIXES, get_suffix

    try:
        from airflow_provider_mps.batch.track.audio import can_encode
    except ImportError as error:
        raise InvalidRequestError(
            f"A track needs numpy, soundfile and soxr, and the worker lacks one of them ({error}): nothing was "
            "assembled. Install airflow-provider-mps[track]."
        ) from error
    if not can_encode(AUDIO_SUFFIXES[get_suffix(options.destination)]):
        raise InvalidRequestError(
            "The libsndfile of this worker cannot write MP3: nothing was assembled. Choose a destination that ends in "
            ".wav or .flac, or update soundfile."
        )
