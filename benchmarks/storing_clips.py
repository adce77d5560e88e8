"""
Storing a thousand small clips, beside what a user would write instead, another version of this provider, and the write.

The clips come over HTTP and HTTPS from a process of its own, one after another and eight at a time, and go to rclone's
S3 server and to a folder. Every figure is the median over fresh processes, each of which has imported all it needs and
stored one clip before it is measured; the candidates take turns. In the folder, only this provider waits until the disk
has the clip. Run it with ``python -m benchmarks.storing_clips``, which takes about ten minutes; a ``TMPDIR`` in memory
keeps the disk's speed out of the figures. ``--quick`` only shows that it works.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.other_version import add_beside_option, make_environment
from benchmarks.storing import CLIP, Storing, median, ratio, verdict
from benchmarks.storing_candidates import CLIP_CANDIDATES, LOOP, OTHER, OTHER_VERSION, OURS
from benchmarks.storing_destinations import S3, Folder
from benchmarks.storing_source import SCHEMES, AudioServer, make_files

if TYPE_CHECKING:
    from benchmarks.storing import Results

AT_ONCE = (1, 8)
LEAST_SPEED = 1.0
"""Of the read/write loop."""
MOST_CPU_MS = 2.0
"""Of a clip, beyond the write alone."""


def compare(
    storing: Storing,
    destination: Folder,
    candidates: list[str],
    given: argparse.Namespace,
    *,
    scheme: str,
    at_once: int,
) -> None:
    """Measure the candidates, and print the table and whether the targets hold."""
    results: Results = {candidate: [] for candidate in candidates}
    for _ in range(given.runs):
        for candidate in candidates:
            result = storing.measure(destination, candidate, "clip", given.clips, scheme=scheme, at_once=at_once)
            results[candidate].append(
                {
                    **result,
                    "speed": given.clips / result["seconds"],
                    "cpu_ms": 1000 * result["cpu"] / given.clips,
                }
            )
    print(f"\n{given.clips} clips of {CLIP // 1000} kB by {scheme} to {destination.title}, {at_once} at a time:\n")
    print(
        "| candidate | clips a second (min to max) | x the loop | CPU ms a clip | MB at most |\n|---|---|---|---|---|"
    )
    for candidate, rows in results.items():
        speeds = [row["speed"] for row in rows]
        print(
            f"| {CLIP_CANDIDATES[candidate].title} | {median(rows, 'speed'):.0f} ({min(speeds):.0f} to "
            f"{max(speeds):.0f}) | {ratio(rows, results[LOOP]):.2f} | {median(rows, 'cpu_ms'):.2f} | "
            f"{median(rows, 'mb'):.0f} |"
        )
    speed = ratio(results[OURS], results[LOOP])
    cpu = median(results[OURS], "cpu_ms") - median(results["put"], "cpu_ms")
    print(f"\n- {speed:.2f} x the loop (at least {LEAST_SPEED}): {verdict(speed >= LEAST_SPEED)}")
    print(f"- {cpu:.2f} ms of CPU beyond the write (at most {MOST_CPU_MS}): {verdict(cpu <= MOST_CPU_MS)}", flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="fresh processes for each candidate")
    parser.add_argument("--clips", type=int, default=1000, help="how many clips")
    parser.add_argument("--to", choices=["s3", "file"], nargs="+", default=["file", "s3"], help="where to")
    parser.add_argument("--by", choices=SCHEMES, nargs="+", default=SCHEMES, help="where from")
    parser.add_argument("--at-once", type=int, nargs="+", default=AT_ONCE, help="how many at a time")
    add_beside_option(parser)
    parser.add_argument("--quick", action="store_true", help="only show that it works; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.runs, given.clips = 1, 10
    candidates = [name for name in CLIP_CANDIDATES if name != OTHER or given.beside]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # the servers and the files go too
    with ExitStack() as stack:
        if given.beside:
            os.environ[OTHER_VERSION] = stack.enter_context(make_environment(given.beside))["PYTHONPATH"]
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mps-storing-")))
        make_files(home / "source", {"clip": CLIP}, room=2 * CLIP * given.clips)
        storing = Storing(home / "airflow", stack.enter_context(AudioServer(home / "source", home)))
        for kind in (Folder, S3):
            if kind.scheme not in given.to:
                continue
            destination = stack.enter_context(kind(home / kind.scheme))
            for scheme in given.by:
                for at_once in given.at_once:
                    compare(storing, destination, candidates, given, scheme=scheme, at_once=at_once)


if __name__ == "__main__":
    main()
