# ruff: noqa: PLC0415 - each method runs in a process that imports only what it needs
"""
Assemble ten hours of audio into one track: time and memory, beside loading all clips.

Each method runs in a process of its own. Its extra memory is its peak above a process that has only imported the same
modules.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 16_000
CLIP_SECONDS = 90
CLIPS = 400
QUICK_CLIPS = 8
DISTINCT_CLIPS = 8
"""Files of different content; the others are hard links to them."""
TITLES = {
    "provider": "this provider",
    "resampled": "this provider, converted to 24 kHz",
    "alternative": "`soundfile.read` of all clips, `numpy.concatenate`, `soundfile.write`",
}
FORMATS = ("wav", "flac")


def make_batch(folder: Path, clips: int) -> None:
    """Write clips of noise that sounds as dense as speech, and the files of a batch."""
    import numpy as np
    import soundfile
    from fastcrc import crc64

    random = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for number in range(clips):
        path = folder / f"clip-{number:04}.wav"
        if number < DISTINCT_CLIPS:
            noise = random.normal(0, 1500, CLIP_SECONDS * RATE)
            envelope = np.abs(np.sin(np.arange(len(noise)) / RATE * 4))
            soundfile.write(path, (noise * envelope).astype(np.int16), RATE)
        else:
            path.hardlink_to(folder / f"clip-{number % DISTINCT_CLIPS:04}.wav")
        if number < DISTINCT_CLIPS:
            content = path.read_bytes()
            digest = {"size": len(content), "crc64": str(crc64.xz(content))}
        else:
            digest = {key: rows[number % DISTINCT_CLIPS][key] for key in ("size", "crc64")}
        rows.append({"id": path.stem, "line": number + 1, "status": "stored", "path": f"file://{path}", **digest})
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").write_text(json.dumps({"run": [], "finished": True, "lines": clips}))


def assemble(folder: Path, method: str, audio_format: str, *, imports_only: bool = False) -> None:
    """Assemble the track in this process, and print its seconds and peak memory."""
    destination = folder / f"track-{method}.{audio_format}"
    began = time.monotonic()
    cpu = time.process_time()
    if method == "alternative":
        import numpy as np
        import soundfile

        began, cpu = time.monotonic(), time.process_time()
        if not imports_only:
            clips = [soundfile.read(path, dtype="int16")[0] for path in sorted(folder.glob("clip-*.wav"))]
            soundfile.write(destination, np.concatenate(clips), RATE)
    else:
        from airflow_provider_mps.batch.track import assemble as _  # noqa: F401 - what the operator imports itself
        from airflow_provider_mps.operators.track import AssembleTrackOperator
        from airflow_provider_mps.storage import file, lineage  # noqa: F401

        class TaskInstance:
            def xcom_push(self, key: str, value: object) -> None:
                pass

        began, cpu = time.monotonic(), time.process_time()
        if not imports_only:
            operator = AssembleTrackOperator(
                task_id="track",
                results=str(folder / "results.jsonl"),
                destination=str(destination),
                sample_rate=24_000 if method == "resampled" else None,
            )
            operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]
    outcome = {
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    destination.unlink(missing_ok=True)
    sys.stdout.write(f"OUTCOME {json.dumps(outcome)}\n")


def measure(folder: Path, method: str, audio_format: str, *options: str) -> dict[str, float]:
    """Run a method in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.track", "--folder", str(folder), "--method", method]
    process = subprocess.run(
        [*command, "--format", audio_format, *options], capture_output=True, text=True, check=False, env=os.environ
    )
    if process.returncode:
        sys.exit(process.stderr[-3000:])
    outcome: dict[str, float] = json.loads(process.stdout.rpartition("OUTCOME ")[2])
    return outcome


def main(argv: Sequence[str]) -> None:
    """Measure each method and format, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help=f"one run of {QUICK_CLIPS} clips")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=TITLES, help=argparse.SUPPRESS)
    parser.add_argument("--format", choices=FORMATS, help=argparse.SUPPRESS)
    parser.add_argument("--imports-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.folder:
        assemble(arguments.folder, arguments.method, arguments.format, imports_only=arguments.imports_only)
        return
    clips, runs = (QUICK_CLIPS, 1) if arguments.quick else (arguments.clips, arguments.runs)
    seconds = clips * CLIP_SECONDS
    print(f"{clips} clips of {CLIP_SECONDS} s at {RATE} Hz: {seconds / 3600:.1f} hours; median of {runs} runs\n")
    print("| Method | Track | Times real time | CPU time | Extra memory | Peak memory |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_batch(folder, clips)
        for audio_format in FORMATS:
            for method, title in TITLES.items():
                imported = measure(folder, method, audio_format, "--imports-only")["peak"]
                outcomes = [measure(folder, method, audio_format) for _ in range(runs)]
                peak = median(outcome["peak"] for outcome in outcomes)
                print(
                    f"| {title} | {audio_format} | {seconds / median(each['seconds'] for each in outcomes):,.0f} "
                    f"| {median(each['cpu'] for each in outcomes):.1f} s | {max(0.0, peak - imported) / 1e6:,.0f} MB "
                    f"| {peak / 1e6:,.0f} MB |",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
