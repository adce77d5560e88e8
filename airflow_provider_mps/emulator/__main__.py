"""Command line of the emulator: ``python -m airflow_provider_mps.emulator --help``."""

from __future__ import annotations

import argparse
import logging
import re
import shutil
from contextlib import suppress
from typing import TypeVar

import uvicorn

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind
from airflow_provider_mps.emulator.server import bind, connection_uri, format_address
from airflow_provider_mps.emulator.tasks import FAIL_PREFIX

DEFAULT_PORT = 8790
MAX_PORT = 65535

N = TypeVar("N", int, float)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_mps.emulator",
        description="Run a local stand-in for the text-to-speech API of Tencent Cloud MPS. It keeps tasks and "
        "voices in memory only. To see a failed task, submit a text, or the prompt of a voice, that begins with "
        f"{FAIL_PREFIX}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=_parse_port, default=DEFAULT_PORT, help="port to listen on; 0 chooses a free port")
    add(
        "--synthesis-time",
        type=_parse_seconds_or_range,
        default=defaults.synthesis_time,
        metavar="SECONDS",
        help="time for which each task is processing; a range such as 30-90 draws a random time for each task",
    )
    add(
        "--latency",
        type=_parse_seconds,
        default=defaults.latency,
        metavar="SECONDS",
        help="minimum time until each API response",
    )
    add(
        "--rate-limit",
        type=_parse_positive,
        default=defaults.rate_limit,
        metavar="N",
        help="requests per second that each API action accepts; more are throttled",
    )
    add(
        "--link-lifetime",
        type=_parse_seconds,
        default=defaults.link_lifetime,
        metavar="SECONDS",
        help="time for which an AudioUrl is valid",
    )
    add("--secret-id", type=_parse_credential, default=defaults.secret_id, help="SecretId that requests must use")
    add("--secret-key", type=_parse_credential, default=defaults.secret_key, help="SecretKey that requests must use")
    add(
        "--token",
        type=_parse_credential,
        default=defaults.token,
        help="session token that requests must send",
    )
    add(
        "--voice",
        choices=["auto", "espeak-ng", "tone"],
        default=defaults.voice,
        help="speech engine; auto uses espeak-ng if it is installed, and otherwise a tone",
    )
    add(
        "--audio-fault",
        type=_parse_audio_fault,
        action="append",
        default=[],
        dest="audio_faults",
        metavar="KIND[:TIMES]",
        help="fault of the first downloads of each audio. TIMES is their number (default 1), or always. Repeat the "
        f"option for a sequence of faults. KIND is one of: {', '.join(FaultKind)}",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run until interrupted."""
    given = parse_arguments(arguments)
    options = Options(
        synthesis_time=given.synthesis_time,
        latency=given.latency,
        rate_limit=given.rate_limit,
        link_lifetime=given.link_lifetime,
        secret_id=given.secret_id,
        secret_key=given.secret_key,
        token=given.token,
        voice=given.voice,
        audio_faults=tuple(given.audio_faults),
    )
    if options.voice == "espeak-ng" and shutil.which("espeak-ng") is None:
        raise SystemExit("espeak-ng is not installed. Install Debian's espeak-ng, or use --voice tone.")
    try:
        listening = bind(given.host, given.port)
    except OSError as error:
        raise SystemExit(
            f"The emulator cannot listen on {given.host}:{given.port}: {error}. Choose another --host or --port."
        ) from error
    port = listening.getsockname()[1]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    print(f"The MPS emulator listens on http://{format_address(given.host, port)}")
    print("It keeps tasks and voices in memory only. Stop it with Ctrl+C.")
    print("To connect Airflow to it, run this where Airflow starts:")
    print(f"  export AIRFLOW_CONN_MPS_DEFAULT='{connection_uri(options, given.host, port)}'", flush=True)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after it has shut down
        uvicorn.Server(uvicorn.Config(make_app(options), log_level="warning")).run(sockets=[listening])


def _parse_seconds(text: str) -> float:
    number = _parse_number(float, text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number


def _parse_seconds_or_range(text: str) -> float | tuple[float, float]:
    shortest, dash, longest = text.partition("-")
    if not dash or not shortest:
        return _parse_seconds(text)
    ends = _parse_seconds(shortest), _parse_seconds(longest)
    if ends[0] > ends[1]:
        raise argparse.ArgumentTypeError(f"{text} is not a range: its first number must not exceed its second")
    return ends


def _parse_positive(text: str) -> int:
    number = _parse_number(int, text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _parse_port(text: str) -> int:
    number = _parse_number(int, text)
    if not 0 <= number <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to {MAX_PORT}")
    return number


def _parse_number(kind: type[N], text: str) -> N:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


def _parse_audio_fault(text: str) -> AudioFault:
    try:
        return AudioFault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse_credential(text: str) -> str:
    if not re.fullmatch("[0-9A-Za-z_.~+=-]+", text):
        raise argparse.ArgumentTypeError("use only letters, digits and _.~+=-, without white space")
    return text


if __name__ == "__main__":
    main()
