"""Assemble a track: read the clips in order, place them, and encode them into an unnamed temporary file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.track.audio import Clip, Track, open_encoder, write_clip
from airflow_provider_mps.batch.track.clips import ClipReader
from airflow_provider_mps.batch.track.options import AUDIO_SUFFIXES, get_suffix, validate_mp3_rate
from airflow_provider_mps.batch.track.temporary_file import open_temporary_file
from airflow_provider_mps.batch.track.timeline import Timeline
from airflow_provider_mps.exceptions import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_mps.batch.row import Row
    from airflow_provider_mps.batch.track.lines import BatchLines
    from airflow_provider_mps.batch.track.options import TrackOptions

LOG_INTERVAL_SECONDS = 10.0
LONG_SILENCE_SECONDS = 3600.0
"""Silence that the log reports, because a start may be wrong."""


@dataclass(frozen=True, slots=True)
class PlacedClip:
    """Where the audio of a line is in the track, in seconds."""

    row: Row
    begin: float
    end: float


@dataclass
class AssembledTrack:
    """A track in a temporary file, which is gone when it is closed."""

    file: IO[bytes]
    duration: float
    """Seconds."""
    clips: list[PlacedClip]
    """Those that are heard, without any that were cut to nothing."""
    timeline: Timeline


class _Progress:
    """Logs a line every :data:`LOG_INTERVAL_SECONDS`."""

    def __init__(self, total: int, log: Any) -> None:
        self.clips = 0
        self.seconds = 0.0
        self._total = total
        self.log = log
        self._next_at = time.monotonic() + LOG_INTERVAL_SECONDS

    def log_if_due(self, track: Track | None = None) -> None:
        if time.monotonic() < self._next_at:
            return
        if track is not None:
            self.seconds = track.length / track.rate
        self._next_at = time.monotonic() + LOG_INTERVAL_SECONDS
        self.log.info(
            "Assembling the track: %s of %s clips, %s of audio",
            f"{self.clips:,}",
            f"{self._total:,}",
            timedelta(seconds=round(self.seconds)),
        )


def assemble(lines: BatchLines, options: TrackOptions, log: Any) -> AssembledTrack:
    """
    Return the track, whose file the caller must close.

    :raises AirflowFailException: if a clip has changed or cannot be decoded, all clips are empty, or clips overlap with
        ``overlap="fail"``
    :raises InvalidRequestError: if clips have several sample rates, and none was chosen
    :raises AirflowException: if a clip could not be read this time, or the temporary folder is full
    """
    file = open_temporary_file()
    try:
        return _assemble(file, lines, options, log)
    except BaseException:
        file.close()
        raise


def _assemble(file: IO[bytes], lines: BatchLines, options: TrackOptions, log: Any) -> AssembledTrack:
    progress = _Progress(len(lines.clips), log)
    track: Track | None = None
    timeline: Timeline | None = None
    placed = []
    clips = ClipReader(lines.clips, options.transfer_timeout, progress.log_if_due)
    for (row, clip_file), following in zip(clips, [*lines.clips[1:], None], strict=True):
        with Clip(row, clip_file) as clip:
            if track is None or timeline is None:
                rate = options.sample_rate or clip.rate
                validate_mp3_rate(rate, options.destination)
                track = Track(open_encoder(file, rate, AUDIO_SUFFIXES[get_suffix(options.destination)]), rate)
                timeline = Timeline(rate, lines.on_cues, options.gap, options.overlap)
            elif options.sample_rate is None and clip.rate != track.rate:
                raise InvalidRequestError(
                    f"Clips have several sample rates: line {lines.clips[0].id} has {track.rate} Hz, and line {row.id} "
                    f"has {clip.rate} Hz. No track was stored. Set sample_rate to convert them all."
                )
            placement = timeline.place(row, following)
            blocks = _log_progress(clip.read(track.rate), track, progress)
            if timeline.overlaps:  # the track will not be stored: measure the other clips, to list all overlaps
                samples, is_cut = sum(map(len, blocks)), False
            else:
                _fill(track, placement.begin, progress, f"line {row.id}")
                samples, is_cut = write_clip(track, blocks, placement.limit)
            timeline.advance(row, placement, samples, is_cut=is_cut)
            if samples:
                end = placement.begin + samples
                placed.append(PlacedClip(row, placement.begin / track.rate, end / track.rate))
        progress.clips += 1
    assert track is not None  # noqa: S101 - there is at least one clip
    assert timeline is not None  # noqa: S101 - it is made together with the track
    timeline.validate()
    if not placed:
        raise AirflowFailException(
            f"The clips of all lines in {options.results} are empty, so no track was stored. They are what the batch "
            "has stored: check how they were made."
        )
    if lines.on_cues:
        _fill(track, timeline.to_samples(lines.last_end), progress, "the end")
    track.close()
    return AssembledTrack(file, track.length / track.rate, placed, timeline)


def _log_progress(blocks: Iterator[Any], track: Track, progress: _Progress) -> Iterator[Any]:
    for block in blocks:
        yield block
        progress.log_if_due(track)


def _fill(track: Track, position: int, progress: _Progress, before: str) -> None:
    """Append silence until the track has a length."""
    seconds = (position - track.length) / track.rate
    if seconds > LONG_SILENCE_SECONDS:
        progress.log.warning("The track has %s of silence before %s", timedelta(seconds=round(seconds)), before)
    track.fill_until(position, lambda: progress.log_if_due(track))
