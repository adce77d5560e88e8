"""Secrets are not in logs or the database: all example pipelines and kinds of failures run at DEBUG."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.faults import AudioFault, FaultKind
from airflow_provider_mps.emulator.server import RunningEmulator
from dev.airflow_api import AirflowApi
from dev.standalone import Standalone
from tests.s3_server import S3Server

pytestmark = [pytest.mark.airflow_standalone, pytest.mark.xdist_group("standalone")]

SECRETS = {
    "SecretKey": "sk-Wq7Hn2Zt9Lr4Xc",
    "token": "tok-Jb5Vd8Ms1Pf6Gy",
    "wrong SecretKey": "sk-wrong-Ke3Ua0Qo",
    "wrong token": "tok-wrong-Nx4Rb7Ti",
    "password of the proxy": "px-Cm2Ye6Hs8Lw",
    "S3 secret": "s3-Dg1Pv7Kz5Bj",
}
TEXT = "Zephyrs just vexed a quick fawn"
"""The text of the DAG ``every_failure``."""
LINES = [{"id": "good", "text": TEXT}, {"id": "bad", "text": f"[fail] {TEXT}"}, {"id": "c", "text": TEXT, "pitch": 99}]


AIRFLOW_DEBUG_LINE = re.compile(
    r"(Sending|Received message from task runner) +\[supervisor\]|Setting xcom for operator extra link \[task\]"
)


class SecretS3Server(S3Server):
    secret = SECRETS["S3 secret"]


class SignatureRecorder:
    """An ASGI app that records the signatures in requests to, and URLs from, the emulator."""

    def __init__(self, app):
        self.app = app
        self.request_signatures, self.url_signatures = set(), set()
        self.short_text_signatures = set()
        """Signatures of URLs of short texts, which a retry needs."""

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", ()))
        is_short_text = headers.get(b"x-tc-action") == b"TextToSpeech"
        found = self.short_text_signatures if is_short_text else self.url_signatures
        for name, value in headers.items():
            if name == b"authorization":
                self.request_signatures.update(re.findall(r"Signature=([0-9a-f]{64})", value.decode("latin-1")))
        body = b""

        async def record(message):
            nonlocal body
            body += message.get("body", b"")
            if body[:1] == b"{" and not message.get("more_body"):
                found.update(re.findall(r"sign=([^\"&\\]{20,})", body.decode("utf-8", "replace")))
            await send(message)

        await self.app(scope, receive, record)


class AirflowRecords:
    """All rows of the database, all logs, and the output of all processes."""

    def __init__(self, home: Path, recorder: SignatureRecorder) -> None:
        self.recorder = recorder
        self.logs = {
            str(file.relative_to(home)): file.read_text(errors="replace")
            for file in [*(home / "logs").rglob("*"), *home.glob("*.log")]
            if file.is_file()
        }
        self.raw = b"".join(file.read_bytes() for file in home.glob("airflow.db*"))
        with sqlite3.connect(home / "airflow.db") as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            self.rows = {
                table: [
                    " ".join(each.decode("latin-1") if isinstance(each, bytes) else str(each) for each in row)
                    for row in database.execute(f"SELECT * FROM {table}")
                ]
                for table in tables
            }

    def logs_with(self, needle: str) -> list[str]:
        """Return the logs with a text, except in lines in which Airflow prints fields and XComs at DEBUG."""
        return [
            name
            for name, text in self.logs.items()
            if needle in text
            and any(needle in line and not AIRFLOW_DEBUG_LINE.search(line) for line in text.splitlines())
        ]

    def find(self, needle: str, *, exclude: str = "") -> list[str]:
        locations = self.logs_with(needle) if exclude else [name for name, text in self.logs.items() if needle in text]
        return locations + [
            table for table, rows in self.rows.items() if table != exclude and needle in "\n".join(rows)
        ]


def _connection(conn_id, fields, password, extra):
    """Return a connection as the form of the UI sends it."""
    return {"connection_id": conn_id, **fields, "password": password, "extra": json.dumps(extra)}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    home = tmp_path_factory.mktemp("secrets")
    for dags in ("integration", "matrix"):
        shutil.copytree(Path(__file__).parents[1] / dags / "dags", home / "dags", dirs_exist_ok=True)
    (home / "audio").mkdir()
    manifest = home / "audio" / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps({**line, "voice_id": "voice-1"}) for line in LINES) + f"\n{TEXT}\n")
    faults = tuple(AudioFault(kind) for kind in (FaultKind.TRUNCATE, FaultKind.FORBIDDEN, FaultKind.UNAVAILABLE))
    options = Options(
        synthesis_time=2,
        voice="tone",
        secret_id="an-id",
        secret_key=SECRETS["SecretKey"],
        token=SECRETS["token"],
        audio_faults=faults,
        rate_limit=5,
    )
    recorder = SignatureRecorder(make_app(options))
    with SecretS3Server(home / "s3") as s3, RunningEmulator(options, recorder) as emulator:
        port = emulator.port
        mps = {"conn_type": "tencent_mps", "host": "127.0.0.1", "port": port, "schema": "http", "login": "an-id"}
        right, wrong = SECRETS["SecretKey"], SECRETS["wrong SecretKey"]
        token = {"token": SECRETS["token"], "region": "ap-singapore"}
        proxy = f"http://user:{SECRETS['password of the proxy']}@127.0.0.1:9"
        connections = [
            _connection("mps_default", mps, right, token),
            _connection("mps_wrong_key", mps, wrong, token),
            _connection("mps_wrong_token", mps, right, {**token, "token": SECRETS["wrong token"]}),
            _connection("mps_dead", {**mps, "port": 9}, right, {**token, "timeout": 1}),
            _connection("mps_proxy", mps, right, {**token, "proxy": proxy}),
            _connection("s3_right", {"conn_type": "aws", "login": s3.key}, SECRETS["S3 secret"], s3.extra),
            _connection("s3_wrong", {"conn_type": "aws", "login": s3.key}, wrong, s3.extra),
        ]
        environment = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG", "AIRFLOW__LOGGING__FAB_LOGGING_LEVEL": "DEBUG"}
        with Standalone(home, dags=home / "dags", environment=environment, connect=False) as standalone:
            api = AirflowApi(standalone.url)
            for connection in connections:
                api.call("POST", "/connections", json=connection)
            conf = {
                "folder": str(home / "audio"),
                "manifest": f"file://{manifest}",
                "s3": "s3://s3_right@clips/",
                "s3_wrong": "s3://s3_wrong@clips/",
                "no_bucket": "s3://s3_right@nowhere/",
            }
            runs = {dag_id: api.trigger(dag_id, conf) for dag_id in ("every_failure", "every_way")}
            states = {dag_id: api.wait(dag_id, run_id, timeout=400) for dag_id, run_id in runs.items()}
        yield AirflowRecords(home, recorder), states


def test_dag_runs_have_expected_states(outcome):
    records, states = outcome
    failed = {name for name, (state, _) in states["every_failure"].items() if state == "failed"}
    assert {"submit_mps_wrong_key", "deferred_mps_wrong_token", "wait_mps_dead", "submit_mps_proxy"} <= failed
    assert {"refused", "broken", "broken_deferred", "no_bucket", "wrong_s3_key", "no_place"} <= failed
    assert {"batch_in_vain", "batch_wrong_key"} <= failed
    for name in ("stored", "batch", "batch_deferred", "in_triggerer"):
        state, attempts = states["every_failure"][name]
        assert state == "success"
        # The only reason for a retry is a lock that was lost on a busy machine.
        logs = [
            text
            for file, text in records.logs.items()
            if "dag_id=every_failure/" in file and f"task_id={name}/" in file
        ]
        assert sum("DestinationLockedError" in text for text in logs) >= attempts - 1


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_not_in_logs_or_database(outcome, name):
    records, _ = outcome
    assert records.find(SECRETS[name]) == []
    assert SECRETS[name].encode() not in records.raw


def test_request_signatures_are_not_kept(outcome):
    records, _ = outcome
    assert len(records.recorder.request_signatures) > 20
    assert {
        location for signature in records.recorder.request_signatures for location in records.find(signature)
    } == set()


def test_url_signatures_are_only_in_xcoms(outcome):
    records, _ = outcome
    assert records.recorder.url_signatures
    assert {
        location
        for signature in records.recorder.url_signatures
        for location in records.find(signature, exclude="xcom")
    } == set()


def test_url_signature_of_short_text_is_only_in_its_task_state(outcome):
    records, _ = outcome
    assert records.recorder.short_text_signatures
    for signature in records.recorder.short_text_signatures:
        assert records.find(signature, exclude="task_state_store") == []
        (row,) = [row for row in records.rows["task_state_store"] if signature in row]
        assert "mps_synthesis" in row


def test_text_is_not_in_logs(outcome):
    records, _ = outcome
    assert records.logs_with(TEXT) == []
