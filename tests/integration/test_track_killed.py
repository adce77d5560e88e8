"""Tasks that are killed while they assemble or store a track."""

import random
import signal
import time

import pytest

from tests.processes import ChildProcess
from tests.track_alone import assemble_alone
from tests.tracks import FinishedBatch, tone

KILLS = 8
OLD = b"the older track"

pytestmark = [pytest.mark.kill, pytest.mark.xdist_group("child_processes")]


@pytest.fixture
def batch(tmp_path):
    batch = FinishedBatch(tmp_path / "clips")
    for _ in range(60):
        batch.add(tone(60, 100))
    batch.write()
    return batch


def test_killed_worker_shows_nothing_and_leaves_no_files(batch, tmp_path):
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    out.mkdir()
    track, subtitles = out / "track.flac", out / "track.flac.srt"

    def start():
        return ChildProcess(
            assemble_alone,
            str(batch.folder / "results.jsonl"),
            f"file://{track}",
            output=tmp_path / "output.txt",
            environment={"TMPDIR": str(temporary)},
        )

    for _ in range(2):  # the first one also starts the server of processes
        began = time.monotonic()
        with start() as process:
            process.wait()
            assert process.exit_code == 0, process.printed
        duration = time.monotonic() - began
    complete = track.read_bytes()
    killed = 0
    for _ in range(KILLS):
        track.write_bytes(OLD)
        subtitles.unlink(missing_ok=True)
        with start() as process:
            time.sleep(random.uniform(0, duration))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += process.exit_code == -signal.SIGKILL
        assert track.read_bytes() in {OLD, complete}
        assert list(temporary.iterdir()) == []
        assert {file.name for file in out.iterdir()} <= {"track.flac", "track.flac.srt"}
        if subtitles.exists():
            assert track.read_bytes() == complete
    assert killed
