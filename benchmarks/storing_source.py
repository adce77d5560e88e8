"""
The server that the benchmarks of storing download from: a process of its own, which only passes on its disk's cache.

``/NAME/anything`` is the file NAME, resumable by range and described as COS does it. ``/half-503/NAME/anything``
promises all of it too, but sends half: the connection closes, and a request for the rest gets 503.

It serves HTTP on one port and HTTPS on another. The file of trusted certificates holds those that are bundled with
``requests``, too: a file with one certificate would hide how long it takes to load them.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastcrc import crc64
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from tests.certificates import PrivateCa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

BLOCK = MIB = 1024 * 1024
SCHEMES = ("http", "https")


def compute_crc64(path: Path) -> int:
    """Return a file's CRC-64/XZ."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            crc = crc64.xz(block, crc)
    return crc


def make_files(folder: Path, sizes: dict[str, int], room: int) -> None:
    """Fill files with random bytes, after a look whether these and ``room`` bytes more fit on the disk."""
    folder.mkdir()
    needed, free = sum(sizes.values()) + room, shutil.disk_usage(folder).free
    if free < needed:
        sys.exit(f"{folder} has {free // MIB} MiB free, and {needed // MIB} are needed. Set TMPDIR to another disk.")
    for name, size in sizes.items():
        with (folder / name).open("wb") as file:
            for start in range(0, size, BLOCK):
                file.write(os.urandom(min(BLOCK, size - start)))
    os.sync()  # or the disk would still be busy with them when the first candidate is measured


class AudioServer:
    """
    The server, while the ``with`` block runs, for the files that are in ``folder`` when it starts.

    :param certificates: where its certificates are written
    """

    def __init__(self, folder: Path, certificates: Path) -> None:
        self.folder = folder
        self.origins: dict[str, str] = {}
        """By scheme: ``http`` or ``https``."""
        self.ca_file = certificates / "trusted.pem"
        """Certificates by which to trust the server."""
        self._certificates = certificates

    def __enter__(self) -> AudioServer:
        ca = PrivateCa.create(self._certificates)
        self.ca_file.write_bytes(ca.file.read_bytes() + Path(DEFAULT_CA_BUNDLE_PATH).read_bytes())
        command = [sys.executable, "-m", "benchmarks.storing_source", str(self.folder), str(ca.server)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        ports = self._process.stdout.readline().split()
        if not ports:
            raise RuntimeError("the server to download from did not start")
        self.origins = {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(SCHEMES, ports, strict=True)}
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def speed(self, name: str) -> float:
        """Return the bytes per second that it sends to a reader that discards them."""
        block = bytearray(BLOCK)
        with socket.create_connection(("127.0.0.1", urlsplit(self.origins["http"]).port)) as connection:
            started, received = time.perf_counter(), 0
            connection.sendall(f"GET /{name}/ HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            while count := connection.recv_into(block):
                received += count
            return received / (time.perf_counter() - started)


@dataclass(frozen=True)
class _File:
    path: Path
    size: int
    crc64: int

    @property
    def etag(self) -> str:
        return f'"{self.crc64:x}"'

    def parse_range(self, header: str, if_range: str | None) -> tuple[int, int] | None:
        """Return the requested range: its first byte, and the byte after its last."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
        if match is None or if_range not in {None, self.etag}:
            return None
        return int(match[1]), min(int(match[2] or self.size) + 1, self.size)


def _serve(connection: socket.socket, files: Mapping[str, _File], tls: ssl.SSLContext | None) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is not None:
        connection = tls.wrap_socket(connection, server_side=True)
    with connection, connection.makefile("rb") as requests, suppress(OSError):
        while _respond(connection, requests, files):
            pass


def _respond(connection: socket.socket, requests: BinaryIO, files: Mapping[str, _File]) -> bool:
    """Respond to one request; return whether there can be another."""
    line = requests.readline().decode("ascii")
    if not line.strip():
        return False
    method, target, _ = line.split()
    headers = http.client.parse_headers(requests)
    half, name = re.fullmatch(r"(?:/half-(\d+))?/([^/]*).*", target).groups()  # type: ignore[union-attr]
    file = files.get(name)
    if file is None:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return True
    requested = file.parse_range(headers.get("Range", ""), headers.get("If-Range"))
    first, end = requested or (0, file.size)
    available = min(end, file.size // 2) if half else end
    if first >= available:
        connection.sendall(f"HTTP/1.1 {half} No\r\nContent-Length: 0\r\n\r\n".encode())
        return True
    content_range = f"Content-Range: bytes {first}-{end - 1}/{file.size}\r\n" if requested else ""
    connection.sendall(
        f"HTTP/1.1 {'206 Partial Content' if requested else '200 OK'}\r\n"
        f"Content-Type: audio/wav\r\nContent-Length: {end - first}\r\n{content_range}Accept-Ranges: bytes\r\n"
        f"ETag: {file.etag}\r\nx-cos-hash-crc64ecma: {file.crc64}\r\n\r\n".encode()
    )
    if method == "GET":
        with file.path.open("rb") as content:
            connection.sendfile(content, first, available - first)
    return not half and headers.get("Connection", "").lower() != "close"


def _accept(server: socket.socket, files: Mapping[str, _File], tls: ssl.SSLContext | None) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_serve, args=(connection, files, tls), daemon=True).start()


def main() -> None:
    """Serve the files of a folder on two free ports, which are printed, until terminated."""
    folder, certificate = sys.argv[1:]
    files = {path.name: _File(path, path.stat().st_size, compute_crc64(path)) for path in Path(folder).iterdir()}
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    servers = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in SCHEMES]
    for server, context in zip(servers, (None, tls), strict=True):
        threading.Thread(target=_accept, args=(server, files, context), daemon=True).start()
    print(*(server.getsockname()[1] for server in servers), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
