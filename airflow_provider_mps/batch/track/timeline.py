"""Decide where each clip begins and ends in a track, in samples; without reading any audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.track.options import Overlap
from airflow_provider_mps.exceptions import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_mps.batch.row import Row

MAX_LISTED = 10
"""Overlaps that an error lists."""
MAX_LISTED_LINES = 20
"""Lines that an error lists."""


def uses_cues(rows: Sequence[Row], timeline: bool | None) -> bool:  # noqa: FBT001 - the argument of the operator
    """
    Return whether each clip begins at its ``start``, rather than after the one before.

    :param rows: lines with audio
    :param timeline: the argument of the operator; ``None`` if the rows decide
    :raises InvalidRequestError: if some rows, but not all, have a ``start``, or if those that need one have none
    """
    without = [row for row in rows if row.start is None]
    if timeline is False or (timeline is None and len(without) == len(rows)):
        return False
    if without and timeline:
        raise InvalidRequestError(
            f"timeline is True, and {len(without):,} of {len(rows):,} lines have no start: {list_ids(without)}. "
            "Nothing was assembled. Set the start of each line in the manifest and run the batch again, or set "
            "timeline=False."
        )
    if without:
        raise InvalidRequestError(
            f"{len(without):,} of {len(rows):,} lines have no start: {list_ids(without)}. Nothing was assembled. Set "
            "timeline=False for one clip after another, or set the start of each line and run the batch again."
        )
    return True


def list_ids(rows: Sequence[Row], limit: int = MAX_LISTED_LINES) -> str:
    """Return the ids of the first rows for an error."""
    names = ", ".join(row.id or f"line {row.line}" for row in rows[:limit])
    return f"{names} and {len(rows) - limit:,} more" if len(rows) > limit else names


@dataclass(frozen=True)
class Placement:
    """Where a clip is in the track, in samples."""

    begin: int
    limit: int | None = None
    """The most samples that it may have; ``None`` for all."""


@dataclass
class Timeline:
    """
    Places clips one after another.

    :param rate: samples per second
    :param on_cues: whether a clip begins at its ``start``
    :param gap: seconds between two clips that follow one another, or before a shifted one
    :param overlap: what to do if a clip lasts longer than until the next one begins
    """

    rate: int
    on_cues: bool = False
    gap: float = 0.0
    overlap: Overlap = Overlap.SHIFT
    position: int = 0
    """Where the last clip ends, in samples."""
    clips: int = 0
    shifted: int = 0
    """How many clips begin later than their ``start``."""
    largest_shift: int = 0
    """Samples."""
    cut: int = 0
    """How many clips end where the next one begins."""
    overlaps: int = 0
    """How many clips begin before the one before has ended, with ``overlap="fail"``."""
    _listed: list[str] = field(default_factory=list)
    _last_id: str | None = None

    def place(self, row: Row, following: Row | None) -> Placement:
        """
        Return where to put a clip.

        :param following: the next line with audio
        """
        if not self.on_cues:
            return Placement(self.position + (self.to_samples(self.gap) if self.clips else 0))
        cue = self.to_samples(row.start)
        if self.overlap is Overlap.CUT:
            return Placement(cue, None if following is None else self.to_samples(following.start) - cue)
        late = self.position - cue
        if late <= 0:
            return Placement(cue)
        if self.overlap is Overlap.FAIL:
            self.overlaps += 1
            if len(self._listed) < MAX_LISTED:
                self._listed.append(f"{self._last_id} ends {late / self.rate:.3f} s after {row.id} begins")
            return Placement(cue)
        begin = self.position + self.to_samples(self.gap)
        self.shifted += 1
        self.largest_shift = max(self.largest_shift, begin - cue)
        return Placement(begin)

    def advance(self, row: Row, placement: Placement, samples: int, *, is_cut: bool = False) -> None:
        """Record how many samples of a clip are in the track."""
        self.clips += 1
        self.cut += is_cut
        self.position = max(self.position, placement.begin + samples)
        self._last_id = row.id

    def validate(self) -> None:
        """
        Check that no clips overlap, if none may.

        :raises AirflowFailException: if some do
        """
        if not self.overlaps:
            return
        more = self.overlaps - len(self._listed)
        listed = "; ".join(self._listed) + (f"; and {more:,} more" if more else "")
        raise AirflowFailException(
            f"{self.overlaps:,} of {self.clips:,} clips overlap, and overlap is 'fail', so no track was stored: "
            f"{listed}. Shorten the texts, use fit_to_cues=True in the batch, or set overlap to 'shift' or 'cut'."
        )

    def to_samples(self, seconds: float | None) -> int:
        """Return a time in samples."""
        return round((seconds or 0.0) * self.rate)
