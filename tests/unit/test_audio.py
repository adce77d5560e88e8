import logging
import os
import threading

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.audio import store_audio
from airflow_provider_mps.choice import IfExists
from airflow_provider_mps.errors import AudioTransferError, DestinationError, InvalidRequestError
from airflow_provider_mps.transfer.fetch import MAX_FRUITLESS_TRIES, MAX_RESTARTS
from airflow_provider_mps.transfer.pipe import Pipe
from tests.scripted_server import RESET, Reply, ScriptedServer, audio_reply

AUDIO = os.urandom(300_000)
OTHER = os.urandom(250_000)
OLD = b"an older good object"

pytestmark = pytest.mark.usefixtures("no_waiting")


class Store:
    """Where the audio goes, and what others see there."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "clip.wav"
        self.fresh_links = []

    def __call__(self, server, **options):
        return store_audio(
            f"{server.url}/clip.wav?sign=SECRETSIGN",
            ObjectStoragePath(f"file://{self.file}"),
            fresh_url=lambda: self.fresh_links.pop(0) if self.fresh_links else f"{server.url}/fresh.wav",
            subject="task task-1",
            log=logging.getLogger("test"),
            **options,
        )

    def seen(self):
        return self.file.read_bytes() if self.file.exists() else None

    def assert_nothing_else_is_left(self):
        assert [path.name for path in self.folder.iterdir()] in ([], ["clip.wav"])


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.assert_nothing_else_is_left()


def whole(request):
    return audio_reply(AUDIO, request)


def cut_at(position):
    return lambda request: audio_reply(AUDIO, request, cut_at=position)


def test_audio_is_stored_whole_with_one_request(store):
    with ScriptedServer(whole) as server:
        store(server)
        assert store.seen() == AUDIO
        assert len(server.requests) == 1
        assert server.requests[0].headers["accept-encoding"] == "identity"  # what is checked is what is stored


@pytest.mark.parametrize("position", [1, 1000, 299_999])
def test_a_broken_download_goes_on_where_it_broke_off(store, position):
    with ScriptedServer(cut_at(position), whole) as server:
        store(server)
        assert store.seen() == AUDIO
        assert server.requests[1].headers["range"] == f"bytes={position}-"


def test_it_goes_on_over_many_breaks_as_long_as_each_brings_something(store):
    with ScriptedServer(*[cut_at(20_000)] * (2 * MAX_FRUITLESS_TRIES), whole) as server:
        store(server)
        assert store.seen() == AUDIO


def test_audio_that_changed_between_two_requests_is_fetched_anew(store):
    with ScriptedServer(cut_at(1000), lambda request: audio_reply(OTHER, request)) as server:
        store(server)
        assert store.seen() == OTHER


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": ""},
        {"ETag": 'W/"weak"'},
    ],
)
def test_without_a_strong_etag_a_broken_download_starts_over(store, headers):
    def broken(_):
        reply = audio_reply(AUDIO, cut_at=1000)
        reply.headers.update(headers)
        return reply

    with ScriptedServer(broken, whole) as server:
        store(server)
        assert store.seen() == AUDIO
        assert "range" not in server.requests[1].headers


@pytest.mark.parametrize(
    "wrong_rest",
    [
        lambda _: Reply(AUDIO[5:], 206, {"Content-Range": f"bytes 5-{len(AUDIO) - 1}/{len(AUDIO)}"}),
        lambda _: Reply(AUDIO[1000:], 206, {}),
        lambda _: Reply(b"", 416, {"Content-Range": "bytes */5"}),
        lambda _: audio_reply(AUDIO),
    ],
    ids=["another range", "no Content-Range", "416", "range ignored"],
)
def test_a_server_that_does_not_send_the_rest_is_asked_for_the_whole(store, wrong_rest):
    with ScriptedServer(cut_at(1000), wrong_rest, whole) as server:
        store(server)
        assert store.seen() == AUDIO


@pytest.mark.parametrize("fault", [Reply(b"busy", 503), Reply(b"slow down", 429), RESET], ids=["503", "429", "reset"])
def test_a_passing_fault_is_tried_again(store, fault):
    with ScriptedServer(fault, fault, whole) as server:
        store(server)
        assert store.seen() == AUDIO


@pytest.mark.parametrize("status", [403, 404])
def test_an_expired_link_is_asked_for_again_even_in_the_middle(store, status):
    with ScriptedServer(cut_at(1000), Reply(b"expired", status), whole) as server:
        store(server)
        assert store.seen() == AUDIO
        assert server.requests[2].target == "/fresh.wav"
        assert server.requests[2].headers["range"] == "bytes=1000-"


GIVEN_UP = {
    "always truncated, cannot resume": lambda _: Reply(AUDIO, 200, {}, cut_at=1000),
    "wrong CRC-64": lambda _: Reply(AUDIO, 200, {"x-cos-hash-crc64ecma": "1"}),
    "always 503": Reply(b"busy", 503),
    "always 403": Reply(b"expired", 403),
    "always reset": RESET,
    "416 for ever": Reply(b"", 416),
    "400": Reply(b"bad", 400),
    "empty": lambda _: audio_reply(b""),
    "absurdly long": lambda _: Reply(AUDIO, 200, {"Content-Length": "9" * 15}),
    "a web page": lambda _: Reply(b"<html>log in</html>", 200, {"Content-Type": "text/html; charset=utf-8"}),
    "encoded": lambda _: Reply(AUDIO, 200, {"Content-Encoding": "gzip"}),
    "encoded twice": lambda _: Reply(AUDIO, 200, {"Content-Encoding": "utf-8, Br"}),
}


@pytest.mark.parametrize("reply", GIVEN_UP.values(), ids=GIVEN_UP.keys())
def test_audio_that_cannot_be_had_whole_is_given_up_and_the_older_object_stays(store, reply):
    store.file.write_bytes(OLD)
    with ScriptedServer(reply) as server:
        with pytest.raises(AudioTransferError, match="task-1"):
            store(server)
        assert store.seen() == OLD
        assert len(server.requests) <= max(MAX_FRUITLESS_TRIES, MAX_RESTARTS + 2)


def test_a_link_that_is_no_http_link_is_not_opened(store):
    with pytest.raises(AudioTransferError, match="'file'"):
        store_audio(
            "file:///etc/passwd",
            ObjectStoragePath(f"file://{store.file}"),
            fresh_url=lambda: "",
            subject="task task-1",
            log=logging.getLogger("test"),
        )


def test_a_fresh_link_that_is_no_http_link_is_not_opened_either(store):
    store.fresh_links = ["file:///etc/passwd"]
    with ScriptedServer(Reply(b"", 403)) as server, pytest.raises(AudioTransferError, match="'file'"):
        store(server)


def test_a_redirect_to_a_file_is_not_followed(store):
    with ScriptedServer(Reply(b"", 302, {"Location": "file:///etc/passwd"})) as server:
        with pytest.raises(AudioTransferError):
            store(server)
        assert store.seen() is None


def test_chunked_audio_without_a_checksum_is_stored_and_the_log_says_what_was_checked(store, caplog):
    caplog.set_level(logging.INFO)
    with ScriptedServer(Reply(chunked(AUDIO), headers=CHUNKED)) as server:
        store(server)
    assert store.seen() == AUDIO
    assert "checked by its last chunk" in caplog.text


def test_chunked_audio_that_was_cut_off_is_not_stored(store):
    with (
        ScriptedServer(Reply(chunked(AUDIO), headers=CHUNKED, cut_at=1000)) as server,
        pytest.raises(AudioTransferError),
    ):
        store(server)
    assert store.seen() is None


def test_audio_whose_end_cannot_be_told_from_a_broken_connection_is_not_stored(store):
    cut_short = Reply(AUDIO, headers={"Content-Length": ""})
    with (
        ScriptedServer(cut_short) as server,
        pytest.raises(AudioTransferError, match="neither a length nor a checksum"),
    ):
        store(server)
    assert store.seen() is None


CHUNKED = {"Content-Length": "", "Transfer-Encoding": "chunked"}


def chunked(audio):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(audio), audio)


@pytest.mark.parametrize(
    "changed", [{"ETag": '"another"'}, {"x-cos-hash-crc64ecma": "5"}], ids=["another ETag", "another CRC-64"]
)
def test_a_rest_that_says_it_is_of_other_audio_is_not_glued_on(store, changed):
    def rest(request):
        reply = audio_reply(AUDIO, request)
        reply.headers.update(changed)
        return reply

    with ScriptedServer(cut_at(1000), rest, whole) as server:
        store(server)
    assert store.seen() == AUDIO
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"\xe9"'}, {"x-cos-hash-crc64ecma": "9" * 5000}, {"ETag": '"a"', "x-cos-hash-crc64ecma": ""}],
    ids=["ETag not ASCII", "CRC-64 of 5000 digits", "no CRC-64"],
)
def test_odd_headers_are_no_obstacle(store, headers):
    def odd(request):
        reply = audio_reply(AUDIO, request, cut_at=1000 if "range" not in request.headers else None)
        reply.headers.update(headers)
        return reply

    with ScriptedServer(odd, lambda request: audio_reply(AUDIO, request)) as server:
        store(server)
    assert store.seen() == AUDIO


@pytest.mark.parametrize(
    "url", ["http://[::1/x.wav", "http://ho\uff0fst/x.wav", "http://a..b/x.wav", "http:///x.wav", ""]
)
def test_a_link_that_cannot_be_opened_is_a_clear_error(store, url):
    with pytest.raises(AudioTransferError, match="task-1"):
        store_audio(
            url,
            ObjectStoragePath(f"file://{store.file}"),
            fresh_url=lambda: "",
            subject="task task-1",
            log=logging.getLogger("test"),
        )


@pytest.mark.parametrize("encoding", ["aws-chunked", "UTF-8", "binary", "identity, aws-chunked", " ", "none"])
def test_content_encoding_that_is_no_coding_is_stored(store, encoding):
    def named(request):
        reply = audio_reply(AUDIO, request)
        reply.headers["Content-Encoding"] = encoding
        return reply

    with ScriptedServer(named) as server:
        store(server)
    assert store.seen() == AUDIO


def test_a_wrong_checksum_is_told_with_how_much_arrived(store):
    said = f"{len(AUDIO)} of {len(AUDIO)} bytes arrived.*CRC-64"
    wrong = Reply(AUDIO, 200, {"x-cos-hash-crc64ecma": "1"})
    with ScriptedServer(wrong) as server, pytest.raises(AudioTransferError, match=said):
        store(server)


def test_fail_does_not_overwrite_what_appeared_meanwhile(store):
    def someone_else_stores(request):
        store.file.write_bytes(OLD)
        return audio_reply(AUDIO, request)

    with ScriptedServer(someone_else_stores) as server, pytest.raises(DestinationError, match="exists already"):
        store(server, if_exists=IfExists.FAIL)
    assert store.seen() == OLD


def test_fail_leaves_what_is_there_and_asks_for_nothing(store):
    store.file.write_bytes(OLD)
    with ScriptedServer(whole) as server:
        with pytest.raises(DestinationError, match="exists already"):
            store(server, if_exists=IfExists.FAIL)
        assert server.requests == []
    assert store.seen() == OLD


def test_fail_stores_where_nothing_is(store):
    with ScriptedServer(whole) as server:
        store(server, if_exists=IfExists.FAIL)
    assert store.seen() == AUDIO


def test_an_unknown_if_exists_is_refused_with_the_choices():
    with pytest.raises(InvalidRequestError, match="overwrite, skip, fail"):
        IfExists.parse("replace")


def test_what_was_written_is_discarded_when_the_task_is_stopped(store):
    def stopped(*_):
        raise KeyboardInterrupt

    store.file.write_bytes(OLD)
    with ScriptedServer(cut_at(1000), Reply(b"", 403)) as server, pytest.raises(KeyboardInterrupt):
        store_audio(
            f"{server.url}/clip.wav",
            ObjectStoragePath(f"file://{store.file}"),
            fresh_url=stopped,
            subject="task task-1",
            log=logging.getLogger("test"),
        )
    assert store.seen() == OLD


def test_the_signature_of_a_link_is_in_no_log_and_no_error(store, caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(cut_at(10), whole) as server:
        store(server)
    with ScriptedServer(RESET) as server, pytest.raises(AudioTransferError) as caught:
        store(server)
    assert "GET /clip.wav HTTP" in caplog.text
    assert "SECRETSIGN" not in caplog.text
    assert "SECRETSIGN" not in str(caught.value)


@pytest.mark.parametrize("if_exists", [IfExists.FAIL, IfExists.SKIP])
def test_a_look_at_the_destination_does_not_outlast_the_time_of_the_transfer(store, monkeypatch, if_exists):
    hanging = threading.Event()
    monkeypatch.setattr("airflow_provider_mps.audio.existing_size", lambda *_: hanging.wait(30))
    with (
        ScriptedServer(audio_reply(AUDIO)) as server,
        pytest.raises(AudioTransferError, match=r"not stored within 0\.5 seconds"),
    ):
        store(server, if_exists=if_exists, timeout=0.5)
    hanging.set()


def test_a_signal_in_the_middle_of_the_clearing_up_does_not_end_it(store, monkeypatch):
    discard, discards = Pipe.discard, []

    def interrupted(pipe):
        discards.append(1)
        if len(discards) == 1:
            raise KeyboardInterrupt
        discard(pipe)

    def fail(_):
        raise OSError("the store is away")

    monkeypatch.setattr(Pipe, "discard", interrupted)
    monkeypatch.setattr(Pipe, "commit", fail)
    with ScriptedServer(audio_reply(AUDIO)) as server, pytest.raises(KeyboardInterrupt):
        store(server)
    assert len(discards) == 2
    assert list(store.folder.iterdir()) == []
