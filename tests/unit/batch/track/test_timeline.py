import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps.batch.row import LineStatus, Row
from airflow_provider_mps.batch.track.options import Overlap
from airflow_provider_mps.batch.track.timeline import Timeline, uses_cues
from airflow_provider_mps.exceptions import InvalidRequestError

RATE = 1000


def row(number, start=None):
    return Row(f"clip-{number}", number, LineStatus.STORED, start=start)


def lay_out(timeline, clips):
    """Return begin and end of clips, given as pairs of start and length, in samples."""
    rows = [row(number, start) for number, (start, _) in enumerate(clips, 1)]
    spans = []
    for one, following, (_, length) in zip(rows, [*rows[1:], None], clips, strict=True):
        placement = timeline.place(one, following)
        is_cut = placement.limit is not None and length > placement.limit
        samples = placement.limit if is_cut else length
        timeline.advance(one, placement, samples, is_cut=is_cut)
        spans.append((placement.begin, placement.begin + samples))
    return spans


def test_clips_follow_one_another_with_gap():
    timeline = Timeline(RATE, gap=0.25)
    assert lay_out(timeline, [(None, 1000), (None, 500), (None, 100)]) == [(0, 1000), (1250, 1750), (2000, 2100)]
    assert timeline.position == 2100


def test_shift_catches_up_in_next_pause():
    timeline = Timeline(RATE, on_cues=True, gap=0.1)
    spans = lay_out(timeline, [(0.5, 1000), (1.0, 1000), (5.0, 10)])
    assert spans == [(500, 1500), (1600, 2600), (5000, 5010)]
    assert (timeline.shifted, timeline.largest_shift) == (1, 600)


def test_gap_does_not_move_clip_that_does_not_overlap():
    assert lay_out(Timeline(RATE, on_cues=True, gap=0.5), [(0.0, 1000), (1.0, 10)]) == [(0, 1000), (1000, 1010)]


def test_cut_ends_clip_where_next_begins():
    timeline = Timeline(RATE, on_cues=True, overlap=Overlap.CUT)
    spans = lay_out(timeline, [(0.0, 900), (1.0, 1500), (2.0, 3000)])
    assert spans == [(0, 900), (1000, 2000), (2000, 5000)]
    assert timeline.cut == 1


def test_cut_of_two_cues_at_same_time_keeps_last():
    assert lay_out(Timeline(RATE, on_cues=True, overlap=Overlap.CUT), [(1.0, 10), (1.0, 20)]) == [
        (1000, 1000),
        (1000, 1020),
    ]


def test_fail_lists_first_overlaps_and_count():
    timeline = Timeline(RATE, on_cues=True, overlap=Overlap.FAIL)
    lay_out(timeline, [(float(number), 1500) for number in range(13)])
    with pytest.raises(AirflowFailException, match="12 of 13 clips overlap") as caught:
        timeline.validate()
    message = str(caught.value)
    assert "clip-1 ends 0.500 s after clip-2 begins" in message
    assert message.count(" ends ") == 10
    assert "and 2 more" in message


def test_fail_accepts_clips_that_touch():
    timeline = Timeline(RATE, on_cues=True, overlap=Overlap.FAIL)
    lay_out(timeline, [(0.0, 1000), (1.0, 1000)])
    timeline.validate()


def test_long_clip_overlaps_several_later_ones():
    timeline = Timeline(RATE, on_cues=True, overlap=Overlap.FAIL)
    lay_out(timeline, [(0.0, 5000), (1.0, 10), (2.0, 10)])
    assert timeline.overlaps == 2


@pytest.mark.parametrize(
    ("starts", "timeline", "expected"),
    [
        ([0.0, 1.0], None, True),
        ([None, None], None, False),
        ([0.0, None], False, False),
        ([0.0, 1.0], False, False),
        ([0.0, 1.0], True, True),
    ],
)
def test_starts_decide_whether_cues_are_used(starts, timeline, expected):
    assert uses_cues([row(number, start) for number, start in enumerate(starts, 1)], timeline) is expected


@pytest.mark.parametrize("timeline", [None, True])
def test_rows_with_and_without_start_are_rejected(timeline):
    with pytest.raises(InvalidRequestError, match=r"1 of 2 lines have no start: clip-2\. .*timeline=False"):
        uses_cues([row(1, 0.0), row(2)], timeline)
