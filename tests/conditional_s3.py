"""A small S3 server that enforces conditional writes as AWS or COS do, or that ignores or rejects them."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Conditions(StrEnum):
    S3 = "s3"
    COS = "cos"
    """Only ``x-cos-forbid-overwrite``."""
    IGNORED = "ignored"
    NOT_IMPLEMENTED = "not implemented"
    """The server responds with 501 to a request with a condition."""


@dataclass
class Object:
    content: bytes
    etag: str
    headers: dict[str, str]


@dataclass
class Upload:
    key: str
    headers: dict[str, str]
    parts: dict[int, Object] = field(default_factory=dict)


@dataclass(frozen=True)
class ReceivedRequest:
    """The parts of a request that tests check."""

    method: str
    target: str
    headers: dict[str, str]


class ConditionalS3:
    """
    Serve one bucket, of any name, while the ``with`` block runs.

    Signatures are not checked.
    """

    def __init__(self, conditions: Conditions = Conditions.S3) -> None:
        self.conditions = conditions
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, Upload] = {}
        self.requests: list[ReceivedRequest] = []
        self.before: Callable[[str, str], None] = lambda *_: None
        """Called with the method and the key before a request is handled."""
        self.lock = threading.RLock()

    def __enter__(self) -> ConditionalS3:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, key: str, content: bytes, headers: dict[str, str] | None = None) -> Object:
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        self.objects[key] = Object(content, etag, headers or {})
        return self.objects[key]

    def connection(self, url: str | None = None) -> tuple[str, str, str]:
        """Return the id of a new connection, the connection as JSON, and the root of its bucket."""
        conn_id = f"conditional_{uuid.uuid4().hex[:8]}"
        if self.conditions is Conditions.COS:
            extra = {"cos_endpoint": "http://cos.ap-singapore.myqcloud.com", "proxy": url or self.url}
            kind, root = "tencent_mps", f"cos://{conn_id}@clips-1250000000/"
        else:
            extra = {"endpoint_url": url or self.url, "region_name": "us-east-1"}
            kind, root = "aws", f"s3://{conn_id}@clips/"
        return conn_id, json.dumps({"conn_type": kind, "login": "id", "password": "key", "extra": extra}), root

    def seen(self, key: str) -> bytes | None:
        found = self.objects.get(key)
        return found.content if found else None

    def conditions_of(self, method: str, query: str = "") -> list[str | None]:
        """Return the condition of each request with this method and query string."""
        names = ("if-none-match", "if-match", "x-cos-forbid-overwrite")
        found = [request for request in self.requests if request.method == method and query in request.target]
        return [next((f"{name}: {one.headers[name]}" for name in names if name in one.headers), None) for one in found]


class _ApiError(Exception):
    def __init__(self, status: int, code: str, condition: str = "") -> None:
        self.status = status
        condition_tag = f"<Condition>{condition}</Condition>" if condition else ""
        self.body = f"<Error><Code>{code}</Code><Message>{code}</Message>{condition_tag}</Error>".encode()


def _make_handler(s3: ConditionalS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_ANY(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            target = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
            bucket, _, key = unquote(target.path).lstrip("/").partition("/")
            if "myqcloud" in headers["host"]:
                key = f"{bucket}/{key}".strip("/")
            if headers.get("expect"):
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            if "aws-chunked" in headers.get("content-encoding", ""):
                body = _decode_chunks(body)
            s3.requests.append(ReceivedRequest(self.command, self.path, headers))
            s3.before(self.command, key)
            try:
                with s3.lock:
                    operation_names = [name for name in ("list-type", "delete", "uploads", "uploadId") if name in query]
                    operation = _OPERATIONS[self.command, "".join(operation_names)]
                    status, response_headers, content = operation(_Request(s3, key, query, headers, body))
            except _ApiError as error:
                status, response_headers, content = error.status, {"Content-Type": "application/xml"}, error.body
            self.send_response(status)
            if "Content-Length" not in response_headers:
                response_headers["Content-Length"] = str(len(content))
            for name, value in response_headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_ANY  # noqa: N815 - names of http.server

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _decode_chunks(body: bytes) -> bytes:
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            break
        content, body = content + body[:length], body[length + 2 :]
    return content


@dataclass(frozen=True)
class _Request:
    s3: ConditionalS3
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def check_condition(self) -> None:
        _check_condition(self.s3, self.key, self.headers)

    @property
    def upload(self) -> Upload:
        if self.query["uploadId"] not in self.s3.uploads:
            raise _ApiError(404, "NoSuchUpload")
        return self.s3.uploads[self.query["uploadId"]]


_Response = tuple[int, dict[str, str], bytes]


def _list(request: _Request) -> _Response:
    return 200, {}, _format_listing(request.s3, request.query)


def _get(request: _Request) -> _Response:
    existing = request.s3.objects.get(request.key)
    if existing is None:
        raise _ApiError(404, "NoSuchKey")
    file_headers = {"Content-Length": str(len(existing.content)), "Last-Modified": formatdate(usegmt=True)}
    return 200, {"ETag": existing.etag, **existing.headers, **file_headers}, existing.content


def _put(request: _Request) -> _Response:
    request.check_condition()
    written = request.s3.put(request.key, request.body, _select_stored_headers(request.headers))
    return 200, {"ETag": written.etag}, b""


def _delete(request: _Request) -> _Response:
    request.s3.objects.pop(request.key, None)
    return 204, {}, b""


def _delete_many(request: _Request) -> _Response:
    for one in request.body.decode().split("<Key>")[1:]:
        request.s3.objects.pop(one.partition("</Key>")[0], None)
    return 200, {}, b"<DeleteResult/>"


def _begin(request: _Request) -> _Response:
    if request.s3.conditions is Conditions.COS:
        request.check_condition()
    upload_id = f"upload-{len(request.s3.requests)}"
    request.s3.uploads[upload_id] = Upload(request.key, _select_stored_headers(request.headers))
    content = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
    return 200, {}, content.encode()


def _put_part(request: _Request) -> _Response:
    etag = f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'
    request.upload.parts[int(request.query["partNumber"])] = Object(request.body, etag, {})
    return 200, {"ETag": etag}, b""


def _list_parts(request: _Request) -> _Response:
    parts = "".join(f"<Part><Size>{len(part.content)}</Size></Part>" for part in request.upload.parts.values())
    return 200, {}, f"<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>".encode()


def _complete(request: _Request) -> _Response:
    upload = request.upload
    request.check_condition()
    parts = [upload.parts[number] for number in sorted(upload.parts)]
    written = request.s3.put(request.key, b"".join(part.content for part in parts), upload.headers)
    md5s = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    written.etag = f'"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"'
    del request.s3.uploads[request.query["uploadId"]]
    etag = escape(written.etag)
    return 200, {}, f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode()


def _abort(request: _Request) -> _Response:
    del request.s3.uploads[request.upload and request.query["uploadId"]]
    return 204, {}, b""


_OPERATIONS: dict[tuple[str, str], Callable[[_Request], _Response]] = {
    ("GET", "list-type"): _list,
    ("GET", ""): _get,
    ("HEAD", ""): _get,
    ("PUT", ""): _put,
    ("DELETE", ""): _delete,
    ("POST", "delete"): _delete_many,
    ("POST", "uploads"): _begin,
    ("PUT", "uploadId"): _put_part,
    ("GET", "uploadId"): _list_parts,
    ("POST", "uploadId"): _complete,
    ("DELETE", "uploadId"): _abort,
}


def _select_stored_headers(headers: dict[str, str]) -> dict[str, str]:
    metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    return {**metadata, "Content-Type": headers.get("content-type", "binary/octet-stream")}


def _check_condition(s3: ConditionalS3, key: str, headers: dict[str, str]) -> None:
    existing = s3.objects.get(key)
    match s3.conditions:
        case Conditions.COS:
            if existing and headers.get("x-cos-forbid-overwrite") == "true":
                raise _ApiError(409, "FileAlreadyExists")
        case Conditions.NOT_IMPLEMENTED:
            if {"if-match", "if-none-match"} & set(headers):
                raise _ApiError(501, "NotImplemented")
        case Conditions.S3:
            if existing and headers.get("if-none-match") == "*":
                raise _ApiError(412, "PreconditionFailed", "If-None-Match")
            condition = headers.get("if-match")
            if condition and existing is None:
                raise _ApiError(404, "NoSuchKey")
            if condition and existing and condition.strip('"') != existing.etag.strip('"'):
                raise _ApiError(412, "PreconditionFailed", "If-Match")


def _format_listing(s3: ConditionalS3, query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    entries, folders = "", set()
    for key, one in sorted(s3.objects.items()):
        if not key.startswith(prefix):
            continue
        folder, slash, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if slash:
            folders.add(f"{prefix}{folder}/")
            continue
        entries += f"<Contents><Key>{escape(key)}</Key><Size>{len(one.content)}</Size><ETag>{escape(one.etag)}</ETag>"
        entries += "<LastModified>2026-11-27T08:00:00.000Z</LastModified></Contents>"
    entries += "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
