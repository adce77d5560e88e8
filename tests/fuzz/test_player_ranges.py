"""Any ``Range`` header of a request to the player."""

from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_mps.player.audio_file import UnsatisfiableRangeError, parse_range
from tests.fuzz.conftest import FUZZ

numbers = st.integers(0, 30).map(str) | st.integers(0).map(str) | st.text("0123456789", max_size=6000) | st.just("")
headers = (
    st.tuples(
        st.sampled_from(["bytes", "Bytes", "items", ""]), st.sampled_from(["=", " = ", ""]), numbers, numbers
    ).map(lambda parts: f"{parts[0]}{parts[1]}{parts[2]}-{parts[3]}")
    | st.text(max_size=30)
    | st.lists(numbers, max_size=5).map(lambda all_: "bytes=" + ",".join(f"{each}-" for each in all_))
)


@FUZZ
@example(header="bytes=" + "9" * 5000 + "-", size=10)
@example(header="bytes=-" + "9" * 5000, size=10)
@example(header="bytes=٣-٤", size=10)
@given(header=st.none() | headers, size=st.integers(0, 40))
def test_range_gets_its_bytes_or_all_or_a_rejection(header, size):
    try:
        part = parse_range(header, size)
    except UnsatisfiableRangeError:
        return
    if part is not None:
        start, stop = part
        assert 0 <= start < stop <= size
        assert header.strip().lower().startswith("bytes")
