"""Metrics on a real StatsD listener, compared with what the emulator has accepted and what is stored."""

from __future__ import annotations

import atexit
import json
import threading
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_mps.emulator.app import Options
from airflow_provider_mps.exceptions import AudioTransferError, MpsApiError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.metrics import Metrics, report_waiting
from airflow_provider_mps.operators.text_to_speech import (
    TextToSpeechOperator,
    TextToSpeechSynthesizeOperator,
    TextToSpeechToObjectStorageOperator,
)
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from tests.batching import Clips, accepted, line, run_batch, set_lease_times, write_manifest
from tests.batching import batch as make_batch
from tests.batching import context as make_batch_context
from tests.faulty_emulator import FaultyEmulator, make_api_error
from tests.state_store import MemoryStore
from tests.statsd import StatsdListener, send_stats
from tests.storing import FakeTaskInstance

pytestmark = pytest.mark.usefixtures("no_waiting")
TEXT = "A secret text of 31 characters."
THROTTLED = make_api_error("RequestLimitExceeded")
UNKNOWN = make_api_error("InternalError")


@pytest.fixture
def statsd(monkeypatch):
    """A StatsD listener that gets the metrics of this process, and no secret in any of them."""
    with StatsdListener() as listener, send_stats(listener, monkeypatch):
        yield listener
        sent = "\n".join(listener.read())
        for secret in ("secret", "emulator-id", "emulator-key", "sign=", "http", "voice-1"):
            assert secret not in sent


@pytest.fixture
def app(start_emulator, connect):
    app = FaultyEmulator(Options(synthesis_time=0, rate_limit=1000, voice="tone"))
    emulator = start_emulator(app)
    connect(f"{emulator.connection_uri}&requests_per_second=200")
    return app


def make_context(store=None):
    context = {"ti": FakeTaskInstance()}
    return context if store is None else {**context, "task_state_store": store}


def submit(context=None, **arguments):
    operator = TextToSpeechOperator(task_id="submit", text=TEXT, voice_id="voice-1", **arguments)
    return operator.execute(context or make_context())


def get_seconds(path):
    with wave.open(str(path)) as audio:
        return audio.getnframes() / audio.getframerate()


def test_operators_count_text_and_stored_audio(app, statsd, tmp_path):
    clip = tmp_path / "clip.wav"
    task_id = submit(wait_for_completion=True, poll_interval=0.1)
    for if_exists in ("overwrite", "skip"):  # which keeps the clip
        store = TextToSpeechToObjectStorageOperator(
            task_id="store", mps_task_id=task_id, destination=f"file://{clip}", if_exists=if_exists
        )
        store.execute(make_context())
    assert statsd.sums(connection="mps_default", operator="TextToSpeechOperator") == {
        "submitted": 1,
        "characters": len(TEXT),
    }
    stored = statsd.sums(connection="mps_default", operator="TextToSpeechToObjectStorageOperator")
    assert stored == {
        "stored": 1,
        "stored_bytes": clip.stat().st_size,
        "audio_seconds": pytest.approx(get_seconds(clip), abs=0.001),
    }
    assert {metric.type for metric in statsd.metrics()} == {"c"}


@pytest.mark.parametrize("output_type", ["url", "data"])
def test_short_text_is_counted_once_over_attempts(app, statsd, tmp_path, output_type):
    clip, store = tmp_path / "clip.wav", MemoryStore()
    for _ in range(2):
        TextToSpeechSynthesizeOperator(
            task_id="speak",
            text=TEXT,
            voice_id="voice-1",
            destination=f"file://{clip}",
            output_type=output_type,
            if_exists="skip",
        ).execute(make_context(store))
    assert app.actions.count("TextToSpeech") == 1
    assert statsd.sums(operator="TextToSpeechSynthesizeOperator") == {
        "submitted": 1,
        "characters": len(TEXT),
        "reconnected": 1,
        "stored": 1,
        "stored_bytes": clip.stat().st_size,
        "audio_seconds": pytest.approx(get_seconds(clip), abs=0.001),
    }


def test_retry_that_reconnects_submits_nothing(app, statsd):
    store = MemoryStore()
    task_ids = {submit(make_context(store)) for _ in range(2)}
    assert len(task_ids) == 1
    assert statsd.sums() == {"submitted": 1, "characters": len(TEXT), "reconnected": 1}


def test_throttled_requests_of_a_hook_are_counted(app, statsd):
    app.faults.extend([THROTTLED] * 2)
    task_id = MpsHook().submit_text_to_speech(TEXT, "voice-1")
    assert statsd.sums(operator="MpsHook") == {"submitted": 1, "characters": len(TEXT), "throttled": 2}
    app.faults.append(THROTTLED)
    TextToSpeechTaskSensor(task_id="wait", mps_task_id=task_id, mode="poke", poke_interval=0.1).execute({})
    assert statsd.sums(operator="TextToSpeechTaskSensor") == {"throttled": 1}


def test_throttled_polls_have_the_operator_that_waits(app, statsd):
    app.faults_of = lambda number: THROTTLED if number in {2, 3} else None
    submit(wait_for_completion=True, poll_interval=0.1)
    assert statsd.sums(operator="TextToSpeechOperator")["throttled"] == 2


def test_unknown_outcome_is_counted_once(app, statsd):
    app.faults.append(UNKNOWN)
    with pytest.raises(MpsApiError):
        MpsHook().submit_text_to_speech(TEXT, "voice-1")
    assert statsd.sums() == {"unknown": 1}


def test_unknown_outcome_of_a_killed_attempt_is_counted_by_the_next(app, statsd, monkeypatch):
    store = MemoryStore()

    def kill(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_mps.api.client.Client.execute", kill)
        with pytest.raises(SystemExit):
            submit(make_context(store))
    assert statsd.sums() == {}
    with pytest.raises(Exception, match="It is unknown whether MPS accepted the text"):
        submit(make_context(store))
    assert statsd.sums() == {"unknown": 1}


@pytest.fixture
def batch(app, tmp_path, monkeypatch):
    """Run a batch of a manifest in one destination."""
    set_lease_times(monkeypatch.setattr)
    clips = Clips(f"file://{tmp_path}/clips/")

    def run(lines, **options):
        manifest = write_manifest(tmp_path / "manifest.jsonl", lines)
        return run_batch(manifest, clips.destination, on_line_failure="continue", **options)

    run.clips = clips
    return run


def test_batch_sums_equal_the_books_of_mps(app, statsd, batch):
    faults = {
        ("TextToSpeechAsync", 3): THROTTLED,
        ("TextToSpeechAsync", 5): THROTTLED,
        ("TextToSpeechAsync", 9): UNKNOWN,
        ("DescribeTextToSpeechAsyncTask", 2): THROTTLED,
        ("DescribeTextToSpeechAsyncTask", 4): UNKNOWN,  # a query can be repeated
    }
    app.faults_of = lambda _: faults.get((action := app.actions[-1], app.actions.count(action)))
    batch(map(line, range(20)))
    texts = accepted(app.app)
    rows = [row for row in batch.clips.rows() if row["status"] == "stored"]
    assert statsd.sums(connection="mps_default", operator="TextToSpeechBatchOperator") == {
        "submitted": texts.total(),
        "characters": sum(map(len, texts.elements())),
        "throttled": 3 + app.refused,
        "unknown": 1,
        "stored": len(rows),
        "stored_bytes": sum(row["size"] for row in rows),
        "audio_seconds": pytest.approx(sum(row["duration"] for row in rows), abs=0.01),
    }


def test_resumed_batch_counts_its_lines_as_reconnected(app, statsd, batch, monkeypatch):
    lines = [line(number) for number in range(5)]

    def fail(*_, **__):
        raise AudioTransferError("the storage is down")

    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_mps.batch.storer.store_audio", fail)
        patch.setattr("airflow_provider_mps.batch.storer.MAX_ATTEMPTS", 1)
        batch(lines)
    assert "stored" not in statsd.sums()
    batch(lines)
    sums = statsd.sums()
    assert (sums["submitted"], sums["reconnected"], sums["stored"]) == (5, 5, 5)


def test_batch_that_was_deferred_counts_no_line_as_reconnected(app, statsd, tmp_path, monkeypatch):
    set_lease_times(monkeypatch.setattr)
    app.app.state.tasks._synthesis_time = (600, 600)
    arguments = write_manifest(tmp_path / "manifest.jsonl", [line(0)]), f"file://{tmp_path}/clips"
    with pytest.raises(TaskDeferred):
        make_batch(*arguments, deferrable=True).execute(make_batch_context())
    app.finish_all_tasks()
    make_batch(*arguments).execute_complete(make_batch_context(), {"finished": 1, "timed_out": False})
    assert statsd.sums().keys() == {"submitted", "characters", "stored", "stored_bytes", "audio_seconds"}


def test_batch_counts_the_line_of_a_killed_run_as_unknown(app, statsd, batch):
    batch([line(0), line(1)])
    results = Path(batch.clips.root.path) / "results.jsonl"
    rows = batch.clips.rows()
    rows[0] |= {"status": "submitting", "TaskId": None}
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert batch([line(0), line(1)])["unknown"] == 1
    assert statsd.sums()["unknown"] == 1
    batch([line(0), line(1)])
    assert statsd.sums()["unknown"] == 1


@pytest.fixture
def collector(monkeypatch):
    """An OpenTelemetry collector that gets the metrics of this process."""
    from airflow.sdk._shared.observability.metrics.otel_logger import flush_otel_metrics
    from opentelemetry import metrics
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(
                ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, StatsdListener() as unused:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "AIRFLOW__METRICS__STATSD_ON": "False",
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "AIRFLOW__METRICS__OTEL_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__OTEL_PORT": str(server.server_port),
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        }
        with send_stats(unused, monkeypatch, **environment):
            try:
                yield received
            finally:
                atexit.unregister(flush_otel_metrics)  # the collector is gone then
                metrics.get_meter_provider().shutdown()
                server.shutdown()


def test_opentelemetry_gets_counters_and_gauge(app, collector, tmp_path):
    from opentelemetry import metrics
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

    clip = tmp_path / "clip.wav"
    TextToSpeechSynthesizeOperator(
        task_id="speak", text=TEXT, voice_id="voice-1", destination=f"file://{clip}"
    ).execute(make_context())
    tagged = Metrics("mps_default", "TextToSpeechTaskTrigger")
    for count in (5, 0):
        report_waiting({tagged: count})
        metrics.get_meter_provider().force_flush()
    found, gauge = {}, []
    for request in collector:
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            for point in (*metric.sum.data_points, *metric.gauge.data_points):
                tags = {attribute.key: attribute.value.string_value for attribute in point.attributes}
                value = point.as_int or point.as_double
                assert tags["connection"] == "mps_default"
                if metric.name == "airflow.mps.waiting":
                    assert tags["hostname"]
                    gauge.append(value)
                else:
                    assert tags["operator"] == "TextToSpeechSynthesizeOperator"
                    assert metric.sum.is_monotonic
                    assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA
                    found[metric.name] = found.get(metric.name, 0) + value
    assert gauge == [5, 0]
    assert found == {
        "airflow.mps.submitted": 1,
        "airflow.mps.characters": len(TEXT),
        "airflow.mps.stored": 1,
        "airflow.mps.stored_bytes": clip.stat().st_size,
        "airflow.mps.audio_seconds": pytest.approx(get_seconds(clip), abs=0.001),
    }
    assert b"sign=" not in b"".join(request.SerializeToString() for request in collector)
