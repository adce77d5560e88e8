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
from tests.unit.emulator.raw_http import ask, connect, read

AUDIO = speak("hello", style=Style(duration=1), voice="tone")
HALF = len(AUDIO) // 2
CRC = "x-cos-hash-crc64ecma"


class Storage:
    """An emulator whose audio meets faults."""

    def __init__(self, emulator, tasks):
        self.emulator = emulator
        self.client = Client(emulator)
        self.tasks = tasks

    def link(self, task):
        return self.client.call("DescribeTextToSpeechAsyncTask", {"TaskId": task.task_id})["AudioUrl"]

    def add(self, audio=AUDIO):
        return self.link(self.tasks.add(audio, "v"))


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
def test_a_body_that_breaks_off_is_announced_whole_and_half_of_it_arrives(serve, kind, end):
    answer = ask(serve(kind).add())
    assert (answer.status, answer.headers["content-length"], answer.end) == (200, str(len(AUDIO)), end)
    assert answer.body == AUDIO[:HALF]


@pytest.mark.parametrize("kind", ["truncate", "stall", "reset", "replace"])
def test_of_a_range_that_breaks_off_half_arrives(serve, kind):
    answer = ask(serve(kind).add(), "Range: bytes=1000-")
    assert answer.status == 206
    assert answer.body == AUDIO[1000 : 1000 + (len(AUDIO) - 1000) // 2]


@on_each_server
@pytest.mark.parametrize("size", [1_000_000, 32_000_000])
@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_half_of_a_large_audio_arrives_also_where_it_is_read_late(serve, kind, size):
    large = random.Random(1).randbytes(size)
    answer = ask(serve(kind).add(large), wait=0.5)
    assert answer.body == large[: size // 2]


@on_each_server
@pytest.mark.parametrize("kind", ["stall", "slow", "reset", "truncate", "too-long"])
def test_a_download_with_a_fault_does_not_hold_the_emulator_up_when_it_stops(serve, kind):
    storage = serve(kind)
    large = bytes(32_000_000)  # more than fits on the way to a client that does not read
    with connect(storage.add(large)) as connection:
        assert connection.recv(1, socket.MSG_PEEK)
        storage.emulator.__exit__()  # after a second the server would use force, and log that it did
        assert read(connection).end in {"closed", "reset"}


@on_each_server
@pytest.mark.parametrize(("kind", "receive"), [("stall", read), ("slow", lambda connection: connection.recv(1))])
def test_when_the_client_leaves_the_connection_is_given_up(serve, kind, receive):
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


def test_the_crc_that_is_told_is_not_the_audios(serve):
    answer = plain_http.get(serve("wrong-crc").add())
    assert answer.content == AUDIO
    assert int(answer.headers[CRC]) != crc64.xz(AUDIO)
    assert 0 <= int(answer.headers[CRC]) < 2**64


def test_no_crc_is_told(serve):
    answer = plain_http.get(serve("no-crc").add())
    assert answer.content == AUDIO
    assert CRC not in answer.headers


@on_each_server
@pytest.mark.parametrize("header", ["X: y", "Range: bytes=0-"])
def test_no_length_is_told_and_chunks_are_sent(serve, header):
    link = serve("no-length:always").add()
    answer = ask(link, header)
    assert "content-length" not in answer.headers
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.endswith(b"\r\n0\r\n\r\n")
    assert plain_http.get(link).content == AUDIO


def test_a_range_is_answered_with_the_whole(serve):
    link = serve("ignore-range").add()
    etag = plain_http.head(link).headers["etag"]
    answers = [plain_http.get(link, headers={"Range": "bytes=1000-", "If-Range": etag}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 206]
    assert [answer.content for answer in answers] == [AUDIO, AUDIO[1000:]]


def test_ignoring_a_range_waits_for_a_request_that_asks_for_one(serve):
    link = serve("truncate", "ignore-range", "truncate").add()
    whole, ranged = (), ("Range: bytes=1000-",)
    assert [len(ask(link, *headers).body) for headers in (whole, whole, whole, ranged, whole)] == [
        HALF,
        len(AUDIO),
        len(AUDIO),
        len(AUDIO),
        HALF,
    ]


def test_an_audio_that_is_replaced_is_another_from_then_on_and_again_each_time(serve):
    storage = serve("replace:2")
    task = storage.tasks.add(AUDIO, "v")
    link = storage.link(task)
    before = plain_http.head(link)
    first = ask(link)
    between = plain_http.head(link)
    second = ask(link, "Range: bytes=1000-")
    after = plain_http.get(link)
    assert first.body == AUDIO[:HALF]
    assert second.status == 206
    assert second.headers["etag"] == between.headers["etag"]
    for header in ("content-length", "etag", CRC):
        assert len({answer.headers[header] for answer in (before, between, after)}) == 3
    assert int(after.headers[CRC]) == crc64.xz(after.content)
    assert after.content[44:HALF] != AUDIO[44:HALF]
    assert plain_http.get(link, headers={"Range": "bytes=9-", "If-Range": before.headers["etag"]}).status_code == 200
    assert storage.tasks.audio(task).duration == 3


def test_only_the_tasks_own_audio_is_replaced(serve):
    storage = serve("replace", synthesis_time=0)
    links = [storage.link(storage.tasks.submit("hi", "v", None, Style())) for _ in range(2)]
    whole = plain_http.head(links[0]).headers["etag"]
    ask(links[0])
    assert plain_http.head(links[0]).headers["etag"] != whole
    assert plain_http.head(links[1]).headers["etag"] == whole


@pytest.mark.parametrize(
    ("kind", "status", "code", "message"),
    [
        ("forbidden", 403, "AccessDenied", "Request has expired"),
        ("not-found", 404, "NoSuchKey", "The specified key does not exist."),
        ("unavailable", 503, "SlowDown", "Please reduce your request rate."),
    ],
)
def test_a_refusal_is_worded_as_cos_does_and_a_fresh_link_works(serve, kind, status, code, message):
    storage = serve(kind)
    task = storage.tasks.add(AUDIO, "v")
    answer = plain_http.get(storage.link(task))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/xml"
    error = ElementTree.fromstring(answer.content)
    assert (error.tag, error.findtext("Code"), error.findtext("Message")) == ("Error", code, message)
    assert plain_http.get(storage.link(task)).content == AUDIO


@pytest.mark.parametrize("times", ["1", "always"])
def test_a_redirect_leads_to_the_same_audio_at_another_address(serve, times):
    link = serve(f"redirect:{times}").add()
    answer = plain_http.get(link)
    assert answer.status_code == 302
    assert answer.headers["location"].partition("?")[0] != link.partition("?")[0]
    assert plain_http.get(answer.headers["location"]).content == AUDIO
    assert plain_http.get(link, follow_redirects=True).content == AUDIO


def test_what_is_redirected_can_meet_the_next_fault_where_it_leads(serve):
    link = serve("redirect", "truncate").add()
    moved = plain_http.get(link).headers["location"]
    assert ask(moved).body == AUDIO[:HALF]
    assert ask(link).body == AUDIO


def test_a_redirect_can_lead_to_a_file_of_the_client(serve):
    answer = plain_http.get(serve("redirect-to-file").add())
    assert (answer.status_code, answer.headers["location"]) == (302, "file:///etc/hostname")


@on_each_server
def test_more_than_was_announced_arrives_on_the_wire(serve):
    answer = ask(serve("too-long").add())
    assert answer.headers["content-length"] == str(len(AUDIO))
    assert answer.body.startswith(AUDIO)
    assert len(answer.body) > len(AUDIO)
    assert answer.end == "closed"


@on_each_server
def test_a_slow_download_is_whole_and_runs_at_64_kb_a_second(serve):
    link, planned = serve("slow").add(), len(AUDIO) / 64_000
    with ThreadPoolExecutor() as beside:  # as long as so many short pauses take on this machine now
        pauses = beside.submit(seconds_of_pauses, 8, planned / 8)
        answer = ask(link)
    assert answer.body == AUDIO
    assert 0.9 * planned < answer.seconds < 3 * max(planned, pauses.result())


def seconds_of_pauses(count, seconds):
    started = time.monotonic()
    for _ in range(count):
        time.sleep(seconds)
    return time.monotonic() - started


def fingerprint(link, kind):
    answer = ask(link, "Connection: close", *["Range: bytes=0-"] * (kind == "ignore-range"))
    told = [answer.headers.get(name) for name in ("content-length", CRC, "location")]
    return answer.status, answer.body, answer.end, told, kind == "slow" and answer.seconds > 0.4


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind != "replace"])
def test_a_fault_is_met_as_often_as_was_asked_for_and_then_no_more(serve, kind):
    storage = serve(f"{kind.value}:2")
    link = storage.add()
    answers = [fingerprint(link, kind) for _ in range(4)]
    assert [answer == answers[-1] for answer in answers] == [False, False, True, True]
    assert answers[-1] == fingerprint(serve().add(), kind)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in {"replace", "slow"}])
def test_a_fault_that_is_to_come_always_does(serve, kind):
    link = serve(f"{kind.value}:always").add()
    faulty = fingerprint(link, kind)
    assert faulty != fingerprint(serve().add(), kind)
    assert [fingerprint(link, kind) for _ in range(3)] == [faulty] * 3


def test_faults_come_one_after_the_other(serve):
    link = serve("not-found:2", "truncate", "forbidden").add()
    assert [ask(link).status for _ in range(5)] == [404, 404, 200, 403, 200]


def test_every_task_meets_the_fault_also_where_they_share_an_audio(serve):
    storage = serve("not-found", synthesis_time=0)
    tasks = [storage.client.call("TextToSpeechAsync", SUBMIT)["TaskId"] for _ in range(3)]
    links = [storage.client.finished(task)["AudioUrl"] for task in tasks]
    assert [plain_http.get(link).status_code for link in links * 2] == [404] * 3 + [200] * 3


def test_what_would_not_have_been_answered_with_the_audio_meets_no_fault(serve):
    link = serve("truncate:1").add()
    assert plain_http.head(link).headers["content-length"] == str(len(AUDIO))
    assert plain_http.get(link + "x").status_code == 403
    assert ask(link).body == AUDIO[:HALF]


@on_each_server
def test_a_server_that_hides_the_connection_closes_it_itself(serve, caplog):
    def hiding(app):
        async def wrapped(scope, receive, send):
            async def hidden(message):
                await send(message)

            await app(scope, receive, hidden)

        return wrapped

    answer = ask(serve("reset", wrapped=hiding).add())
    assert (answer.body, answer.end) == (AUDIO[:HALF], "closed")
    caplog.clear()  # here the server cannot know that it is meant so
