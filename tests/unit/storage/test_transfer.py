import logging
import os
import threading

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.exceptions import AudioTransferError, DestinationError, InvalidRequestError
from airflow_provider_mps.speech.parsing import parse_choice
from airflow_provider_mps.storage.download import MAX_ATTEMPTS_WITHOUT_PROGRESS, MAX_RESTARTS
from airflow_provider_mps.storage.if_exists import IfExists
from airflow_provider_mps.storage.pipe import Pipe
from airflow_provider_mps.storage.transfer import store_audio
from tests.scripted_server import RESET, Reply, ScriptedServer, make_audio_reply

AUDIO = os.urandom(300_000)
OTHER = os.urandom(250_000)
OLD = b"an older good object"

pytestmark = pytest.mark.usefixtures("no_waiting")


class Destination:
    """A local destination, and what readers find there."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "clip.wav"
        self.refreshed_urls = []

    def store(self, server, **options):
        return store_audio(
            f"{server.url}/clip.wav?sign=SECRETSIGN",
            ObjectStoragePath(f"file://{self.file}"),
            get_fresh_url=lambda: self.refreshed_urls.pop(0) if self.refreshed_urls else f"{server.url}/fresh.wav",
            subject="task task-1",
            log=logging.getLogger("test"),
            **options,
        )

    def read(self):
        return self.file.read_bytes() if self.file.exists() else None

    def assert_no_other_files(self):
        assert [path.name for path in self.folder.iterdir()] in ([], ["clip.wav"])


@pytest.fixture
def destination(tmp_path):
    destination = Destination(tmp_path)
    yield destination
    destination.assert_no_other_files()


def full_reply(request):
    return make_audio_reply(AUDIO, request)


def truncated_at(position):
    return lambda request: make_audio_reply(AUDIO, request, cut_at=position)


def test_audio_is_stored_with_one_request(destination):
    with ScriptedServer(full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO
        assert len(server.requests) == 1
        assert server.requests[0].headers["accept-encoding"] == "identity"  # verify and store the same bytes


@pytest.mark.parametrize("position", [1, 1000, 299_999])
def test_broken_download_resumes_at_last_byte(destination, position):
    with ScriptedServer(truncated_at(position), full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO
        assert server.requests[1].headers["range"] == f"bytes={position}-"


def test_download_resumes_while_attempts_make_progress(destination):
    with ScriptedServer(*[truncated_at(20_000)] * (2 * MAX_ATTEMPTS_WITHOUT_PROGRESS), full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO


def test_audio_changed_between_requests_restarts_download(destination):
    with ScriptedServer(truncated_at(1000), lambda request: make_audio_reply(OTHER, request)) as server:
        destination.store(server)
        assert destination.read() == OTHER


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": ""},
        {"ETag": 'W/"weak"'},
    ],
)
def test_broken_download_without_strong_etag_restarts(destination, headers):
    def broken(_):
        reply = make_audio_reply(AUDIO, cut_at=1000)
        reply.headers.update(headers)
        return reply

    with ScriptedServer(broken, full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO
        assert "range" not in server.requests[1].headers


@pytest.mark.parametrize(
    "wrong_range",
    [
        lambda _: Reply(AUDIO[5:], 206, {"Content-Range": f"bytes 5-{len(AUDIO) - 1}/{len(AUDIO)}"}),
        lambda _: Reply(AUDIO[1000:], 206, {}),
        lambda _: Reply(b"", 416, {"Content-Range": "bytes */5"}),
        lambda _: make_audio_reply(AUDIO),
    ],
    ids=["other range", "no Content-Range", "416", "range ignored"],
)
def test_wrong_range_in_response_restarts_download(destination, wrong_range):
    with ScriptedServer(truncated_at(1000), wrong_range, full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO


@pytest.mark.parametrize("fault", [Reply(b"busy", 503), Reply(b"slow down", 429), RESET], ids=["503", "429", "reset"])
def test_transient_fault_is_retried(destination, fault):
    with ScriptedServer(fault, fault, full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO


@pytest.mark.parametrize("status", [403, 404])
def test_expired_url_is_refreshed_and_download_resumes(destination, status):
    with ScriptedServer(truncated_at(1000), Reply(b"expired", status), full_reply) as server:
        destination.store(server)
        assert destination.read() == AUDIO
        assert server.requests[2].target == "/fresh.wav"
        assert server.requests[2].headers["range"] == "bytes=1000-"


PERMANENT_FAULTS = {
    "always truncated, cannot resume": lambda _: Reply(AUDIO, 200, {}, cut_at=1000),
    "wrong CRC-64": lambda _: Reply(AUDIO, 200, {"x-cos-hash-crc64ecma": "1"}),
    "always 503": Reply(b"busy", 503),
    "always 403": Reply(b"expired", 403),
    "always reset": RESET,
    "always 416": Reply(b"", 416),
    "400": Reply(b"bad", 400),
    "empty": lambda _: make_audio_reply(b""),
    "too long": lambda _: Reply(AUDIO, 200, {"Content-Length": "9" * 15}),
    "web page": lambda _: Reply(b"<html>log in</html>", 200, {"Content-Type": "text/html; charset=utf-8"}),
    "encoded": lambda _: Reply(AUDIO, 200, {"Content-Encoding": "gzip"}),
    "encoded twice": lambda _: Reply(AUDIO, 200, {"Content-Encoding": "utf-8, Br"}),
}


@pytest.mark.parametrize("reply", PERMANENT_FAULTS.values(), ids=PERMANENT_FAULTS.keys())
def test_permanently_broken_audio_keeps_older_object(destination, reply):
    destination.file.write_bytes(OLD)
    with ScriptedServer(reply) as server:
        with pytest.raises(AudioTransferError, match="task-1"):
            destination.store(server)
        assert destination.read() == OLD
        assert len(server.requests) <= max(MAX_ATTEMPTS_WITHOUT_PROGRESS, MAX_RESTARTS + 2)


def test_url_without_http_scheme_raises(destination):
    with pytest.raises(AudioTransferError, match="'file'"):
        store_audio(
            "file:///etc/passwd",
            ObjectStoragePath(f"file://{destination.file}"),
            get_fresh_url=lambda: "",
            subject="task task-1",
            log=logging.getLogger("test"),
        )


def test_refreshed_url_without_http_scheme_raises(destination):
    destination.refreshed_urls = ["file:///etc/passwd"]
    with ScriptedServer(Reply(b"", 403)) as server, pytest.raises(AudioTransferError, match="'file'"):
        destination.store(server)


def test_redirect_to_file_stores_nothing(destination):
    with ScriptedServer(Reply(b"", 302, {"Location": "file:///etc/passwd"})) as server:
        with pytest.raises(AudioTransferError):
            destination.store(server)
        assert destination.read() is None


def test_chunked_audio_without_crc64_is_verified_by_last_chunk(destination, caplog):
    caplog.set_level(logging.INFO)
    with ScriptedServer(Reply(chunked(AUDIO), headers=CHUNKED)) as server:
        destination.store(server)
    assert destination.read() == AUDIO
    assert "verified by its last chunk" in caplog.text


def test_truncated_chunked_audio_is_not_stored(destination):
    with (
        ScriptedServer(Reply(chunked(AUDIO), headers=CHUNKED, cut_at=1000)) as server,
        pytest.raises(AudioTransferError),
    ):
        destination.store(server)
    assert destination.read() is None


def test_unverifiable_audio_is_not_stored(destination):
    unverifiable = Reply(AUDIO, headers={"Content-Length": ""})
    with (
        ScriptedServer(unverifiable) as server,
        pytest.raises(AudioTransferError, match="neither a length nor a checksum"),
    ):
        destination.store(server)
    assert destination.read() is None


CHUNKED = {"Content-Length": "", "Transfer-Encoding": "chunked"}


def chunked(audio):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(audio), audio)


@pytest.mark.parametrize(
    "changed", [{"ETag": '"another"'}, {"x-cos-hash-crc64ecma": "5"}], ids=["other ETag", "other CRC-64"]
)
def test_rest_of_other_audio_restarts_download(destination, changed):
    def rest(request):
        reply = make_audio_reply(AUDIO, request)
        reply.headers.update(changed)
        return reply

    with ScriptedServer(truncated_at(1000), rest, full_reply) as server:
        destination.store(server)
    assert destination.read() == AUDIO
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"\xe9"'}, {"x-cos-hash-crc64ecma": "9" * 5000}, {"ETag": '"a"', "x-cos-hash-crc64ecma": ""}],
    ids=["ETag not ASCII", "CRC-64 of 5000 digits", "no CRC-64"],
)
def test_audio_with_odd_headers_is_stored(destination, headers):
    def odd(request):
        reply = make_audio_reply(AUDIO, request, cut_at=1000 if "range" not in request.headers else None)
        reply.headers.update(headers)
        return reply

    with ScriptedServer(odd, lambda request: make_audio_reply(AUDIO, request)) as server:
        destination.store(server)
    assert destination.read() == AUDIO


@pytest.mark.parametrize(
    "url", ["http://[::1/x.wav", "http://ho\uff0fst/x.wav", "http://a..b/x.wav", "http:///x.wav", ""]
)
def test_invalid_url_raises_transfer_error(destination, url):
    with pytest.raises(AudioTransferError, match="task-1"):
        store_audio(
            url,
            ObjectStoragePath(f"file://{destination.file}"),
            get_fresh_url=lambda: "",
            subject="task task-1",
            log=logging.getLogger("test"),
        )


@pytest.mark.parametrize("encoding", ["aws-chunked", "UTF-8", "binary", "identity, aws-chunked", " ", "none"])
def test_content_encoding_without_coding_is_stored(destination, encoding):
    def named(request):
        reply = make_audio_reply(AUDIO, request)
        reply.headers["Content-Encoding"] = encoding
        return reply

    with ScriptedServer(named) as server:
        destination.store(server)
    assert destination.read() == AUDIO


def test_wrong_crc64_error_names_received_bytes(destination):
    message = f"{len(AUDIO)} of {len(AUDIO)} bytes arrived.*CRC-64"
    wrong = Reply(AUDIO, 200, {"x-cos-hash-crc64ecma": "1"})
    with ScriptedServer(wrong) as server, pytest.raises(AudioTransferError, match=message):
        destination.store(server)


def test_if_exists_fail_keeps_object_created_meanwhile(destination):
    def create_file_and_reply(request):
        destination.file.write_bytes(OLD)
        return make_audio_reply(AUDIO, request)

    with ScriptedServer(create_file_and_reply) as server, pytest.raises(DestinationError, match="exists already"):
        destination.store(server, if_exists=IfExists.FAIL)
    assert destination.read() == OLD


def test_if_exists_fail_keeps_object_without_request(destination):
    destination.file.write_bytes(OLD)
    with ScriptedServer(full_reply) as server:
        with pytest.raises(DestinationError, match="exists already"):
            destination.store(server, if_exists=IfExists.FAIL)
        assert server.requests == []
    assert destination.read() == OLD


def test_if_exists_fail_stores_new_object(destination):
    with ScriptedServer(full_reply) as server:
        destination.store(server, if_exists=IfExists.FAIL)
    assert destination.read() == AUDIO


def test_if_exists_unknown_value_error_lists_choices():
    with pytest.raises(InvalidRequestError, match="overwrite, skip, fail"):
        parse_choice(IfExists, "replace")


def test_interrupted_transfer_discards_upload(destination):
    def interrupt(*_):
        raise KeyboardInterrupt

    destination.file.write_bytes(OLD)
    with ScriptedServer(truncated_at(1000), Reply(b"", 403)) as server, pytest.raises(KeyboardInterrupt):
        store_audio(
            f"{server.url}/clip.wav",
            ObjectStoragePath(f"file://{destination.file}"),
            get_fresh_url=interrupt,
            subject="task task-1",
            log=logging.getLogger("test"),
        )
    assert destination.read() == OLD


def test_signature_is_hidden_in_logs_and_errors(destination, caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(truncated_at(10), full_reply) as server:
        destination.store(server)
    with ScriptedServer(RESET) as server, pytest.raises(AudioTransferError) as caught:
        destination.store(server)
    assert "GET /clip.wav HTTP" in caplog.text
    assert "SECRETSIGN" not in caplog.text
    assert "SECRETSIGN" not in str(caught.value)


@pytest.mark.parametrize("if_exists", [IfExists.FAIL, IfExists.SKIP])
def test_destination_check_ends_at_transfer_timeout(destination, monkeypatch, if_exists):
    hanging = threading.Event()
    monkeypatch.setattr("airflow_provider_mps.storage.if_exists.get_existing_size", lambda *_: hanging.wait(30))
    with (
        ScriptedServer(make_audio_reply(AUDIO)) as server,
        pytest.raises(AudioTransferError, match=r"not stored within 0\.5 seconds"),
    ):
        destination.store(server, if_exists=if_exists, timeout=0.5)
    hanging.set()


def test_signal_during_cleanup_repeats_discard(destination, monkeypatch):
    discard, discards = Pipe.discard, []

    def interrupt_first_discard(pipe):
        discards.append(1)
        if len(discards) == 1:
            raise KeyboardInterrupt
        discard(pipe)

    def fail(_):
        raise OSError("the storage is away")

    monkeypatch.setattr(Pipe, "discard", interrupt_first_discard)
    monkeypatch.setattr(Pipe, "commit", fail)
    with ScriptedServer(make_audio_reply(AUDIO)) as server, pytest.raises(KeyboardInterrupt):
        destination.store(server)
    assert len(discards) == 2
    assert list(destination.folder.iterdir()) == []
