"""The benchmarks still run, and what they say of the destination holds; their figures are for a quiet machine."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from benchmarks.storing_candidates import CANDIDATES, CLIP_CANDIDATES, OTHER
from benchmarks.track import TITLES
from dev.airflow_environment import REPOSITORY
from tests.programs import require_program

# One worker runs them all: two at once would wait for each other's disk.
pytestmark = [pytest.mark.benchmark, pytest.mark.xdist_group("benchmarks")]


def run_benchmark(module, *arguments, timeout):
    """Run it in a process group of its own, so that on a timeout its servers end too."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0, errors
    return output


def rows(output, title):
    return [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith(f"| {title} |")]


@pytest.mark.parametrize("scheme", CANDIDATES)
def test_quick_storing_benchmark_measures_every_candidate(scheme):
    if scheme == "s3":
        require_program("rclone")
    output = run_benchmark("benchmarks.storing", "--quick", "--to", scheme, timeout=600)
    for candidate in CANDIDATES[scheme].values():
        large, *dying = rows(output, candidate.title)
        assert re.match(r"\d+\.\d \(", large[1])
        assert len(dying) == candidate.downloads
    assert rows(output, "this provider")[1][1:5] == ["nothing", "the older one", "nothing", "AudioTransferError"]
    assert "bytes that look finished" in rows(output, "read/write loop into ObjectStoragePath")[1][1]


def test_clips_benchmark_measures_candidates_by_http_and_https():
    output = run_benchmark("benchmarks.storing_clips", "--quick", "--to", "file", timeout=600)
    for name, candidate in CLIP_CANDIDATES.items():
        if name != OTHER:
            found = rows(output, candidate.title)
            assert len(found) == 4
            assert all(re.match(r"\d+ \(", row[1]) for row in found)


def test_client_cost_benchmark_counts_loaded_certificates():
    found = rows(run_benchmark("benchmarks.client_cost", "--runs", "1", timeout=300), "this provider")
    assert [(scheme, client, loads) for _, scheme, client, _, _, loads in found] == [
        ("https", "first", "1"),
        ("https", "each further one", "0"),
        ("http", "first", "0"),
        ("http", "each further one", "0"),
    ]


def test_import_cost_benchmark_finds_no_sdk_import():
    output = run_benchmark("benchmarks.import_cost", "--runs", "1", timeout=300)
    (row,) = rows(output, "this provider: hook, sensor, trigger, operators")
    assert row[-1] == "no"
    (row,) = rows(output, "hook, sensor, trigger, operators, and the SDK")
    assert row[-1] == "yes"


def test_quick_batch_on_s3_benchmark_counts_requests():
    require_program("rclone")
    output = run_benchmark("benchmarks.batch_on_s3", "--lines", "40", "--synthesis", "1", "2", timeout=300)
    measured, *_ = rows(output, "This version")
    assert measured[1:3] == ["40", "0"]
    assert [row[1].rstrip(" |") for row in rows(output, "PUT clips")] == ["40"]
    assert rows(output, "DELETE log") == []


def test_quick_track_benchmark_measures_both_methods():
    output = run_benchmark("benchmarks.track", "--quick", timeout=300)
    ours, alternative = (rows(output, TITLES[name]) for name in ("provider", "alternative"))
    assert [row[1] for row in ours] == [row[1] for row in alternative] == ["wav", "flac"]
    assert all(int(row[2].replace(",", "")) > 50 for row in ours)
