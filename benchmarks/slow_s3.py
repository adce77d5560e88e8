"""A proxy that makes an S3 server slow, and counts the requests of a batch by method and kind of object."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter

from dev.programs import free_port

KINDS = {
    "log": r"/\.mps-batch/journal",
    "lock": r"/\.mps-batch/lock\.json$",
    "results": r"/(results\.jsonl|summary\.json)$",
    "clips": r"\.wav$",
}
"""Kinds of objects, by a pattern of their path."""


class SlowProxy:
    """
    Forward HTTP requests to a local server, each one late, and count them.

    :param port: of the server
    :param delay: seconds
    """

    def __init__(self, port: int, delay: float) -> None:
        self._target = port
        self._delay = delay
        self.port = free_port()
        self.requests: Counter[tuple[str, str]] = Counter()
        """By method and kind of object."""
        self.results_written: list[float] = []
        """When the result manifest was written."""
        self.ended: dict[tuple[str, str], float] = {}
        """When the last request of a method for a kind of object ended."""

    def __enter__(self) -> SlowProxy:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
            started.set()
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        connections = asyncio.all_tasks(self._loop)
        for connection in connections:
            connection.cancel()
        self._loop.run_until_complete(asyncio.wait(connections) if connections else asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = None
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._target)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = head.split(b" ", 2)[:2]
                request = method.decode(), _get_kind(target.decode())
                if re.search(rb"(?i)\r\nexpect: *100-continue", head):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = re.sub(rb"(?i)\r\nexpect: *100-continue", b"", head)
                server.write(head)
                await _forward_body(head, reader, server)
                await asyncio.sleep(self._delay)
                response = await from_server.readuntil(b"\r\n\r\n")
                writer.write(response)
                if method != b"HEAD" and b" 204 " not in response.split(b"\r\n")[0]:
                    await _forward_body(response, from_server, writer)
                await writer.drain()
                self.requests[request] += 1
                self.ended[request] = time.monotonic()
                if method == b"PUT" and target.partition(b"?")[0].endswith(b"results.jsonl"):
                    self.results_written.append(time.monotonic())
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):  # the latter at the end
            pass
        finally:
            for end in (writer, server):
                if end is not None:
                    end.close()


def _get_kind(target: str) -> str:
    path = target.partition("?")[0]
    if "?delete" in target or "prefix=" in target:
        return "log"  # the batch lists and removes nothing else
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, path)), "other")


async def _forward_body(head: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    if found := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        left = int(found[1])
        while left:
            block = await source.read(min(left, 1 << 16))
            if not block:
                raise asyncio.IncompleteReadError(b"", left)
            target.write(block)
            left -= len(block)
    elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        while True:
            line = await source.readuntil(b"\r\n")
            target.write(line + await source.readexactly(int(line, 16) + 2))
            if int(line, 16) == 0:
                break
    await target.drain()
