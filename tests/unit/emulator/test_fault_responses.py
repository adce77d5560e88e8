import logging
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from xml.etree import ElementTree

import psutil
import pytest
import uvicorn
from fastcrc import crc64

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.speech import Style, speak
from tests.unit.emulator.client import SUBMIT, Client, plain_http
from tests.unit.emulator.raw_http import connect, fetch, read

AUDIO = speak("hello", style=Style(duration=1), voice="tone")
HALF = len(AUDIO) // 2
CRC = "x-cos-hash-crc64ecma"


class Storage:
    """An emulator whose audio meets faults."""

    def __init__(self, emulator, tasks):
        self.emulator = emulator
        self.client = Client(emulator)
        self.tasks = tasks

    def url(self, task):
        return self.client.call("DescribeTextToSpeechAsyncTask", {"TaskId": task.task_id})["AudioUrl"]

    def add(self, audio=AUDIO):
        return self.url(self.tasks.add(audio, "v"))


@pytest.fixture(params=[("h11", "asyncio"), ("httptools", "uvloop")], ids=lambda server: server[0])
def server(request, monkeypatch):
    """Each of uvicorn's implementations of HTTP, on each loop."""
    http, loop = request.param
    for module in request.param:
        pytest.importorskip(module)
    monkeypatch.setattr(uvicorn, "Config", partial(uvicorn.Config, http=http, loop=loop))


on_each_server = pytest.mark.usefixtures("server")


@pytest.fixture
def serve(caplog):
    """Start the emulator with faults, which are not to leave a trace on the server's error log."""
    with ExitStack() as running:

        def start(*faults, wrapped=lambda app: app, **options):
            app = make_app(Options(voice="tone", audio_faults=tuple(map(AudioFault.parse, faults)), **options))
            emulator = running.enter_context(RunningEmulator(app=wrapped(app)))
            logging.getLogger("uvicorn.error").addHandler(caplog.handler)  # it is kept from the root's handlers
            return Storage(emulator, app.state.tasks)

        yield start
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    # Threads that other tests have left in this process may log something, too.
    logged = [
        record
        for record in caplog.records
        if record.name.startswith(("uvicorn", "asyncio", "airflow_provider_mps.emulator"))
    ]
    assert [record.getMessage() for record in logged if record.levelno >= logging.WARNING] == []


@on_each_server
@pytest.mark.parametrize(
    ("kind", "end"), [("truncate", "closed"), ("stall", "open"), ("reset", "reset"), ("replace", "closed")]
)
def test_broken_body_announces_all_and_sends_half(serve, kind, end):
    response = fetch(serve(kind).add())
    assert (response.status, response.headers["content-length"], response.end) == (200, str(len(AUDIO)), end)
    assert response.body == AUDIO[:HALF]


@pytest.mark.parametrize("kind", ["truncate", "stall", "reset", "replace"])
def test_broken_range_sends_half(serve, kind):
    response = fetch(serve(kind).add(), "Range: bytes=1000-")
    assert response.status == 206
    assert response.body == AUDIO[1000 : 1000 + (len(AUDIO) - 1000) // 2]


@on_each_server
@pytest.mark.parametrize("size", [1_000_000, 32_000_000])
@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_half_of_a_large_audio_arrives_if_read_late(serve, kind, size):
    large = random.Random(1).randbytes(size)
    response = fetch(serve(kind).add(large), wait=0.5)
    assert response.body == large[: size // 2]


@on_each_server
@pytest.mark.parametrize("kind", ["stall", "slow", "reset", "truncate", "too-long"])
def test_faulty_download_does_not_block_stop(serve, kind):
    storage = serve(kind)
    large = bytes(32_000_000)  # more than fits on the way to a client that does not read
    with connect(storage.add(large)) as connection:
        assert connection.recv(1, socket.MSG_PEEK)
        storage.emulator.__exit__()  # after a second the server would use force, and log that it did
        assert read(connection).end in {"closed", "reset"}


@on_each_server
@pytest.mark.parametrize(("kind", "receive"), [("stall", read), ("slow", lambda connection: connection.recv(1))])
def test_connection_is_dropped_when_the_client_disconnects(serve, kind, receive):
    storage = serve(kind)
    with connect(storage.add(bytes(500_000))) as connection:
        assert receive(connection)
        assert connections_of(storage.emulator)
    deadline = time.monotonic() + 60
    while connections_of(storage.emulator):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def connections_of(emulator):
    """Its ends of those that it has not closed."""
    open_ends = [psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT]
    all_ends = psutil.Process().net_connections("tcp")
    return [end for end in all_ends if end.laddr.port == emulator.port and end.status in open_ends]


def test_wrong_crc_fault_sends_another_crc(serve):
    response = plain_http.get(serve("wrong-crc").add())
    assert response.content == AUDIO
    assert int(response.headers[CRC]) != crc64.xz(AUDIO)
    assert 0 <= int(response.headers[CRC]) < 2**64


def test_no_crc_fault_sends_no_crc(serve):
    response = plain_http.get(serve("no-crc").add())
    assert response.content == AUDIO
    assert CRC not in response.headers


@on_each_server
@pytest.mark.parametrize("header", ["X: y", "Range: bytes=0-"])
def test_no_length_fault_sends_chunks(serve, header):
    url = serve("no-length:always").add()
    response = fetch(url, header)
    assert "content-length" not in response.headers
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.body.endswith(b"\r\n0\r\n\r\n")
    assert plain_http.get(url).content == AUDIO


def test_ignore_range_fault_sends_the_whole_audio(serve):
    url = serve("ignore-range").add()
    etag = plain_http.head(url).headers["etag"]
    responses = [plain_http.get(url, headers={"Range": "bytes=1000-", "If-Range": etag}) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 206]
    assert [response.content for response in responses] == [AUDIO, AUDIO[1000:]]


def test_ignore_range_fault_waits_for_a_range_request(serve):
    url = serve("truncate", "ignore-range", "truncate").add()
    whole, ranged = (), ("Range: bytes=1000-",)
    assert [len(fetch(url, *headers).body) for headers in (whole, whole, whole, ranged, whole)] == [
        HALF,
        len(AUDIO),
        len(AUDIO),
        len(AUDIO),
        HALF,
    ]


def test_replaced_audio_differs_each_time(serve):
    storage = serve("replace:2")
    task = storage.tasks.add(AUDIO, "v")
    url = storage.url(task)
    before = plain_http.head(url)
    first = fetch(url)
    between = plain_http.head(url)
    second = fetch(url, "Range: bytes=1000-")
    after = plain_http.get(url)
    assert first.body == AUDIO[:HALF]
    assert second.status == 206
    assert second.headers["etag"] == between.headers["etag"]
    for header in ("content-length", "etag", CRC):
        assert len({response.headers[header] for response in (before, between, after)}) == 3
    assert int(after.headers[CRC]) == crc64.xz(after.content)
    assert after.content[44:HALF] != AUDIO[44:HALF]
    assert plain_http.get(url, headers={"Range": "bytes=9-", "If-Range": before.headers["etag"]}).status_code == 200
    assert storage.tasks.audio(task).duration == 3


def test_only_the_audio_of_the_task_is_replaced(serve):
    storage = serve("replace", synthesis_time=0)
    urls = [storage.url(storage.tasks.submit("hi", "v", None, Style())) for _ in range(2)]
    whole = plain_http.head(urls[0]).headers["etag"]
    fetch(urls[0])
    assert plain_http.head(urls[0]).headers["etag"] != whole
    assert plain_http.head(urls[1]).headers["etag"] == whole


@pytest.mark.parametrize(
    ("kind", "status", "code", "message"),
    [
        ("forbidden", 403, "AccessDenied", "Request has expired"),
        ("not-found", 404, "NoSuchKey", "The specified key does not exist."),
        ("unavailable", 503, "SlowDown", "Please reduce your request rate."),
    ],
)
def test_error_fault_looks_like_cos_and_a_fresh_url_works(serve, kind, status, code, message):
    storage = serve(kind)
    task = storage.tasks.add(AUDIO, "v")
    response = plain_http.get(storage.url(task))
    assert response.status_code == status
    assert response.headers["content-type"] == "application/xml"
    error = ElementTree.fromstring(response.content)
    assert (error.tag, error.findtext("Code"), error.findtext("Message")) == ("Error", code, message)
    assert plain_http.get(storage.url(task)).content == AUDIO


@pytest.mark.parametrize("times", ["1", "always"])
def test_redirect_fault_leads_to_the_same_audio(serve, times):
    url = serve(f"redirect:{times}").add()
    response = plain_http.get(url)
    assert response.status_code == 302
    assert response.headers["location"].partition("?")[0] != url.partition("?")[0]
    assert plain_http.get(response.headers["location"]).content == AUDIO
    assert plain_http.get(url, follow_redirects=True).content == AUDIO


def test_redirect_target_can_get_the_next_fault(serve):
    url = serve("redirect", "truncate").add()
    moved = plain_http.get(url).headers["location"]
    assert fetch(moved).body == AUDIO[:HALF]
    assert fetch(url).body == AUDIO


def test_redirect_to_file_fault_names_a_local_file(serve):
    response = plain_http.get(serve("redirect-to-file").add())
    assert (response.status_code, response.headers["location"]) == (302, "file:///etc/hostname")


@on_each_server
def test_too_long_fault_sends_more_than_announced(serve):
    response = fetch(serve("too-long").add())
    assert response.headers["content-length"] == str(len(AUDIO))
    assert response.body.startswith(AUDIO)
    assert len(response.body) > len(AUDIO)
    assert response.end == "closed"


@on_each_server
def test_slow_fault_sends_all_at_64_kb_per_second(serve):
    url, planned = serve("slow").add(), len(AUDIO) / 64_000
    with ThreadPoolExecutor() as beside:  # as long as so many short pauses take on this machine now
        pauses = beside.submit(seconds_of_pauses, 8, planned / 8)
        response = fetch(url)
    assert response.body == AUDIO
    assert 0.9 * planned < response.seconds < 3 * max(planned, pauses.result())


def seconds_of_pauses(count, seconds):
    started = time.monotonic()
    for _ in range(count):
        time.sleep(seconds)
    return time.monotonic() - started


def fingerprint(url, kind):
    response = fetch(url, "Connection: close", *["Range: bytes=0-"] * (kind == "ignore-range"))
    output = [response.headers.get(name) for name in ("content-length", CRC, "location")]
    return response.status, response.body, response.end, output, kind == "slow" and response.seconds > 0.4


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind != "replace"])
def test_fault_occurs_the_given_number_of_times(serve, kind):
    storage = serve(f"{kind.value}:2")
    url = storage.add()
    responses = [fingerprint(url, kind) for _ in range(4)]
    assert [response == responses[-1] for response in responses] == [False, False, True, True]
    assert responses[-1] == fingerprint(serve().add(), kind)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in {"replace", "slow"}])
def test_fault_with_always_never_ends(serve, kind):
    url = serve(f"{kind.value}:always").add()
    faulty = fingerprint(url, kind)
    assert faulty != fingerprint(serve().add(), kind)
    assert [fingerprint(url, kind) for _ in range(3)] == [faulty] * 3


def test_faults_occur_one_after_the_other(serve):
    url = serve("not-found:2", "truncate", "forbidden").add()
    assert [fetch(url).status for _ in range(5)] == [404, 404, 200, 403, 200]


def test_tasks_that_share_an_audio_each_get_the_fault(serve):
    storage = serve("not-found", synthesis_time=0)
    tasks = [storage.client.call("TextToSpeechAsync", SUBMIT)["TaskId"] for _ in range(3)]
    urls = [storage.client.finished(task)["AudioUrl"] for task in tasks]
    assert [plain_http.get(url).status_code for url in urls * 2] == [404] * 3 + [200] * 3


def test_request_that_gets_no_audio_gets_no_fault(serve):
    url = serve("truncate:1").add()
    assert plain_http.head(url).headers["content-length"] == str(len(AUDIO))
    assert plain_http.get(url + "x").status_code == 403
    assert fetch(url).body == AUDIO[:HALF]


@on_each_server
def test_server_closes_a_connection_hidden_by_middleware(serve, caplog):
    def hiding(app):
        async def wrapped(scope, receive, send):
            async def hidden(message):
                await send(message)

            await app(scope, receive, hidden)

        return wrapped

    response = fetch(serve("reset", wrapped=hiding).add())
    assert (response.body, response.end) == (AUDIO[:HALF], "closed")
    caplog.clear()  # here the server cannot know that it is meant so
