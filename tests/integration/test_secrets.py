"""What is secret stays so: all pipelines at DEBUG, each kind of failure, and then everything that Airflow kept."""

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
"""As in the DAG ``every_failure``."""
LINES = [{"id": "good", "text": TEXT}, {"id": "bad", "text": f"[fail] {TEXT}"}, {"id": "c", "text": TEXT, "pitch": 99}]


OWN = re.compile(
    r"(Sending|Received message from task runner) +\[supervisor\]|Setting xcom for operator extra link \[task\]"
)


class OwnS3Server(S3Server):
    secret = SECRETS["S3 secret"]


class Witness:
    """The emulator, with a note of each signature that came or went."""

    def __init__(self, app):
        self.app = app
        self.of_requests, self.of_links = set(), set()

    async def __call__(self, scope, receive, send):
        for name, value in scope.get("headers", ()):
            if name == b"authorization":
                self.of_requests.update(re.findall(r"Signature=([0-9a-f]{64})", value.decode("latin-1")))
        body = b""

        async def look(message):
            nonlocal body
            body += message.get("body", b"")
            if body[:1] == b"{" and not message.get("more_body"):
                self.of_links.update(re.findall(r"sign=([^\"&\\]{20,})", body.decode("utf-8", "replace")))
            await send(message)

        await self.app(scope, receive, look)


class KeptByAirflow:
    """Everything that a run has left: each row of the database, each log, and what the processes printed."""

    def __init__(self, home: Path, witness: Witness) -> None:
        self.witness = witness
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
        """The logs that hold it, but for what Airflow itself prints of any task's fields and XComs at DEBUG."""
        return [
            name
            for name, text in self.logs.items()
            if needle in text and any(needle in line and not OWN.search(line) for line in text.splitlines())
        ]

    def where(self, needle: str, *, but: str = "") -> list[str]:
        places = self.logs_with(needle) if but else [name for name, text in self.logs.items() if needle in text]
        return places + [table for table, rows in self.rows.items() if table != but and needle in "\n".join(rows)]


def _connection(conn_id, fields, password, extra):
    """As the form of the UI sends it."""
    return {"connection_id": conn_id, **fields, "password": password, "extra": json.dumps(extra)}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
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
    witness = Witness(make_app(options))
    with OwnS3Server(home / "s3") as s3, RunningEmulator(options, witness) as emulator:
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
        yield KeptByAirflow(home, witness), states


def test_the_runs_met_what_they_should(kept):
    everything, states = kept
    failed = {name for name, (state, _) in states["every_failure"].items() if state == "failed"}
    assert {"submit_mps_wrong_key", "deferred_mps_wrong_token", "wait_mps_dead", "submit_mps_proxy"} <= failed
    assert {"refused", "broken", "broken_deferred", "no_bucket", "wrong_s3_key", "no_place"} <= failed
    assert {"batch_in_vain", "batch_wrong_key"} <= failed
    for name in ("stored", "batch", "batch_deferred", "in_triggerer"):
        state, attempts = states["every_failure"][name]
        assert state == "success"
        # Only a lock that a busy machine has lost is worth another attempt.
        logs = [
            text
            for file, text in everything.logs.items()
            if "dag_id=every_failure/" in file and f"task_id={name}/" in file
        ]
        assert sum("DestinationTakenError" in text for text in logs) >= attempts - 1


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_in_a_log_or_in_the_database(kept, name):
    everything, _ = kept
    assert everything.where(SECRETS[name]) == []
    assert SECRETS[name].encode() not in everything.raw


def test_no_signature_of_a_request_is_kept(kept):
    everything, _ = kept
    assert len(everything.witness.of_requests) > 20
    assert {place for signature in everything.witness.of_requests for place in everything.where(signature)} == set()


def test_the_signature_of_a_link_is_in_the_sensors_xcom_and_nowhere_else(kept):
    everything, _ = kept
    assert everything.witness.of_links
    assert {place for link in everything.witness.of_links for place in everything.where(link, but="xcom")} == set()


def test_the_text_is_in_no_log(kept):
    everything, _ = kept
    assert everything.logs_with(TEXT) == []
