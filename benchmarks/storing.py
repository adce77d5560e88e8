"""
Measure storing one large audio: this provider, what a user would write instead, and the upload alone.

The audio comes over HTTP from a process of its own, and goes to rclone's S3 server and to a folder. Every figure is the
median over fresh processes, each of which has imported all it needs and stored one small file before it is measured;
the candidates take turns. Then each sees a download die half way. In the folder, this provider and the write alone wait
until the disk has it, the others do not. Run it with ``python -m benchmarks.storing``, which takes about ten minutes
and 4 GiB of ``TMPDIR`` (with ``--huge`` 14): a file system in memory keeps the disk's speed out of the figures.
``--quick`` only shows that it works. ``benchmarks.storing_clips`` stores many small files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.other_version import add_beside_option, make_environment
from benchmarks.storing_candidates import (
    CANDIDATES,
    CLIP_CANDIDATES,
    HTTP_CONN_ID,
    OTHER,
    OTHER_VERSION,
    OURS,
    Item,
)
from benchmarks.storing_destinations import S3, Folder, clear
from benchmarks.storing_source import AudioServer, compute_crc64, make_files
from dev.airflow_environment import airflow_environment

MIB = 1024 * 1024
HUGE = 4096 * MIB
CLIP = 100_000
BROKEN = 64 * MIB
OLDER = b"what was there before"
LEAST_SPEED = 0.9
"""Of the upload alone."""
MOST_MEMORY = 64
"""MB above the imported process."""

Results = dict[str, list[dict[str, Any]]]


class Storing:
    """
    The means to let candidates store what a source has.

    :param home: folder for what their processes write besides
    """

    def __init__(self, home: Path, source: AudioServer) -> None:
        self._source = source
        self._numbers = itertools.count(1)
        self._crc64 = {path.name: compute_crc64(path) for path in source.folder.iterdir()}
        self._environment = {
            **{name: value for name, value in airflow_environment(home).items() if not name.startswith("AWS_")},
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            f"AIRFLOW_CONN_{HTTP_CONN_ID.upper()}": source.origins["http"],
            "NO_PROXY": "127.0.0.1",
            "REQUESTS_CA_BUNDLE": str(source.ca_file),
            "TMPDIR": str(home),
        }

    def measure(
        self, destination: Folder, candidate: str, name: str, count: int, *, scheme: str = "http", at_once: int = 1
    ) -> dict[str, Any]:
        """Let a candidate store the file ``count`` times, ``at_once`` at a time, and return what it took."""
        prefix = f"{candidate}-{next(self._numbers)}"
        destination.make(prefix)
        items = [self._item(destination, name, f"{prefix}/{number:04}.wav", scheme) for number in range(count)]
        result = self._store(f"measure:{at_once}", destination, candidate, items, scheme)
        if any(result["errors"]):
            raise RuntimeError(f"{candidate} could not store {name}: {next(filter(None, result['errors']))}")
        for item in items:
            if compute_crc64(destination.folder / item.key) != self._crc64[name]:
                raise RuntimeError(f"{candidate} did not store {name} as it is")
        clear(destination, prefix)
        return result

    def see_dying(self, destination: Folder, candidate: str, name: str) -> dict[str, Any]:
        """Let a candidate store what ends half way, and return what is left of it."""
        prefix = f"{candidate}-{next(self._numbers)}"
        destination.make(prefix)
        new, older = (self._item(destination, name, f"{prefix}/{key}.wav") for key in ("new", "older"))
        destination.put(older.key, OLDER)
        result = self._store("at-once", destination, candidate, [new, older])
        left = {
            "seconds": result["seconds"],
            "errors": sorted({(error or "no error").partition(":")[0] for error in result["errors"]}),
            "new": _describe(destination.seen(new.key)),
            "older": _describe(destination.seen(older.key)),
            "unfinished": destination.unfinished(prefix, {new.key, older.key, _beside(new.key)}),
        }
        clear(destination, prefix)
        return left

    def _item(self, destination: Folder, name: str, key: str, scheme: str = "http") -> Item:
        url = f"{self._source.origins[scheme]}/{name}/{key}"
        return Item(url, str(self._source.folder / name), key, destination.root)

    def _store(
        self, what: str, destination: Folder, candidate: str, items: list[Item], scheme: str = "http"
    ) -> dict[str, Any]:
        warm_up = self._item(destination, "clip", _beside(items[0].key), scheme)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.storing_candidates", what, destination.scheme, candidate],
            input=json.dumps([warm_up, *items]),
            env={**self._environment, **destination.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result


def _beside(key: str) -> str:
    return f"{key.rpartition('/')[0]}/warm-up.wav"


def _describe(seen: bytes | None) -> str:
    if seen is None:
        return "nothing"
    if seen == OLDER:
        return "the older one"
    return f"{len(seen)} of {BROKEN} bytes that look finished"


def compare(storing: Storing, destination: Folder, given: argparse.Namespace) -> Results:
    """Measure every candidate with the large file, and print the table."""
    candidates = dict(CANDIDATES[destination.scheme])
    if given.beside:
        candidates[OTHER] = CLIP_CANDIDATES[OTHER]
    results: Results = {candidate: [] for candidate in candidates}
    turns = list(candidates) * given.runs
    with ThreadPoolExecutor(given.at_once) as pool:
        measured = pool.map(lambda candidate: storing.measure(destination, candidate, "large", 1), turns)
        for candidate, result in zip(turns, measured, strict=True):
            results[candidate].append({**result, "speed": given.size / result["seconds"]})
    alone = [candidate for candidate in candidates if not candidates[candidate].downloads]
    ratios = "".join(f" | x {candidates[candidate].title.partition(':')[0]}" for candidate in alone)
    print(f"\n{given.size} MiB to {destination.title}, medians of {given.runs}:\n")
    print(f"| candidate | MiB/s (min to max){ratios} | MB at most | CPU, seconds |")
    print(f"|---|---|{'---|' * len(alone)}---|---|")
    for candidate, rows in results.items():
        speeds, speed = [row["speed"] for row in rows], median(rows, "speed")
        print(
            f"| {candidates[candidate].title} | {speed:.1f} ({min(speeds):.1f} to {max(speeds):.1f}) | "
            + "".join(f"{ratio(rows, results[base]):.2f} | " for base in alone)
            + f"{median(rows, 'mb'):.0f} | {median(rows, 'cpu'):.2f} |",
            flush=True,
        )
    return results


def median(rows: list[dict[str, Any]], key: str) -> float:
    """Return the median of one figure."""
    return float(statistics.median(row[key] for row in rows))


def ratio(rows: list[dict[str, Any]], base: list[dict[str, Any]]) -> float:
    """Return how much faster, in the middle one of the turns: a machine's speed drifts less within one than between."""
    return float(statistics.median(row["speed"] / other["speed"] for row, other in zip(rows, base, strict=True)))


def compare_dying(storing: Storing, destination: Folder, name: str) -> dict[str, dict[str, Any]]:
    """Let a download die half way for every candidate that downloads, and print the table."""
    candidates = {name: each for name, each in CANDIDATES[destination.scheme].items() if each.downloads}
    with ThreadPoolExecutor(2) as pool:  # nothing here is a matter of speed
        found = pool.map(lambda candidate: storing.see_dying(destination, candidate, name), candidates)
        left = dict(zip(candidates, found, strict=True))
    print(f"\n{BROKEN // MIB} MiB to {destination.title}, of which the second half never comes:\n")
    print("| candidate | where nothing was | where an older one was | also left | ends with | seconds |")
    print("|---|---|---|---|---|---|")
    for candidate, row in left.items():
        print(
            f"| {candidates[candidate].title} | {row['new']} | {row['older']} | "
            f"{', '.join(row['unfinished']) or 'nothing'} | {', '.join(row['errors'])} | {row['seconds']:.1f} |",
            flush=True,
        )
    return left


def verdict(holds: bool) -> str:  # noqa: FBT001
    """Say whether a target holds."""
    return "holds" if holds else "MISSED"


def print_verdicts(destination: Folder, large: Results, left: dict[str, Any], huge: dict[str, Any] | None) -> None:
    """Print whether the targets hold."""
    memory = max(row["mb"] for row in large[OURS])
    print(f"\nTargets, storing to {destination.title}:\n")
    for candidate, each in CANDIDATES[destination.scheme].items():
        if destination.scheme == "s3" and not each.downloads:
            speed = ratio(large[OURS], large[candidate])
            print(f"- {speed:.2f} x {each.title} (at least {LEAST_SPEED}): {verdict(speed >= LEAST_SPEED)}")
    print(f"- {memory:.0f} MB above the imported process (at most {MOST_MEMORY}): {verdict(memory <= MOST_MEMORY)}")
    if huge:
        print(
            f"- {huge['mb']:.0f} MB at {HUGE // MIB} MiB, in {huge['seconds']:.0f} seconds (at most {MOST_MEMORY}): "
            f"{verdict(huge['mb'] <= MOST_MEMORY)}"
        )
    ours = left[OURS]
    clean = (ours["new"], ours["older"], ours["unfinished"]) == ("nothing", "the older one", [])
    print(f"- nothing left of a download that died: {verdict(clean)}", flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="fresh processes for each candidate")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large audio")
    parser.add_argument("--huge", action="store_true", help="also let this provider store 4 GiB, for its memory")
    parser.add_argument("--to", choices=list(CANDIDATES), nargs="+", default=list(CANDIDATES), help="where to")
    add_beside_option(parser)
    parser.add_argument("--quick", action="store_true", help="only show that it works; the figures mean nothing")
    given = parser.parse_args()
    given.at_once, given.then = 1, 503
    if given.quick:  # 410 is not retried, so there is no backoff
        given.runs, given.size, given.at_once, given.then = 1, 32, 2, 410
    sizes = {"large": given.size * MIB, "clip": CLIP, "broken": BROKEN}
    if given.huge:
        sizes["huge"] = HUGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # the servers and the files go too
    with ExitStack() as stack:
        if given.beside:
            os.environ[OTHER_VERSION] = stack.enter_context(make_environment(given.beside))["PYTHONPATH"]
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mps-storing-")))
        make_files(home / "source", sizes, room=2 * max(sizes.values()))
        source = stack.enter_context(AudioServer(home / "source", home))
        print(f"The source alone sends {source.speed('large') / MIB:.0f} MiB/s.", flush=True)
        storing = Storing(home / "airflow", source)
        for kind in (S3, Folder):
            if kind.scheme not in given.to:
                continue
            destination = stack.enter_context(kind(home / kind.scheme))
            large = compare(storing, destination, given)
            left = compare_dying(storing, destination, name=f"half-{given.then}/broken")
            huge = storing.measure(destination, OURS, "huge", 1) if given.huge else None
            print_verdicts(destination, large, left, huge)


if __name__ == "__main__":
    main()
