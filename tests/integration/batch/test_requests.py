"""Which requests a batch sends to object storage, in which order, and what a failed removal leaves."""

from __future__ import annotations

import re
import signal
import threading
from collections import Counter
from itertools import pairwise

import pytest

from airflow_provider_mps.batch import run
from tests import batch_alone, conditional_s3
from tests.batching import LINES, Clips, accepted, run_batch, submits, wait_until
from tests.conditional_s3 import ConditionalS3, Conditions
from tests.processes import ChildProcess

LOG = "clips/.mps-batch/journal"
LOCK = "clips/.mps-batch/lock.json"


@pytest.fixture(params=[Conditions.S3, Conditions.COS], ids=["s3", "cos"])
def bucket(request, monkeypatch):
    """Serve a bucket of S3 or COS; return the server and its root."""
    with ConditionalS3(request.param) as s3:
        conn_id, connection, root = s3.connection()
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        yield s3, root


def is_removal(request):
    return request.method == "POST" and "delete" in request.target


def count_log_parts(s3):
    return sum(key.startswith(LOG) for key in s3.objects)


def test_batch_needs_few_requests_and_removes_its_log_in_bulk(app, manifest, bucket):
    s3, root = bucket
    assert run_batch(manifest(LINES), f"{root}clips/")["stored"] == LINES
    kinds = Counter(
        (request.method, name)
        for request in s3.requests
        for name in ("journal", "lock.json", ".wav")
        if name in request.target
    )
    assert kinds["PUT", "journal"] <= 2 * LINES + 1  # without sharing, each line needs three
    assert kinds["PUT", ".wav"] == LINES
    assert kinds["DELETE", "journal"] == kinds["HEAD", "journal"] == kinds["HEAD", "lock.json"] == 0
    assert len(list(filter(is_removal, s3.requests))) == 1
    assert count_log_parts(s3) == 0


def test_lock_is_released_before_the_log_is_removed(app, manifest, bucket):
    s3, root = bucket
    run_batch(manifest(LINES), f"{root}clips/")
    (removal,) = (number for number, request in enumerate(s3.requests) if is_removal(request))
    (release,) = (
        number for number, request in enumerate(s3.requests) if request.method == "DELETE" and LOCK in request.target
    )
    results = max(number for number, request in enumerate(s3.requests) if re.search(r"summary\.json", request.target))
    assert results < release < removal


REMOVAL_FAILED = b"<DeleteResult><Error><Key>any</Key><Code>InternalError</Code></Error></DeleteResult>"


def test_log_that_cannot_be_removed_is_ignored_by_the_next_run(app, manifest, bucket, capsys, monkeypatch):
    s3, root = bucket
    clips = Clips(f"{root}clips/")
    lines = manifest(LINES)
    with monkeypatch.context() as patched:
        reply = 200, {"Content-Type": "application/xml"}, REMOVAL_FAILED
        patched.setitem(conditional_s3._OPERATIONS, ("POST", "delete"), lambda _: reply)
        assert run_batch(lines, clips.destination)["stored"] == LINES
    assert "Removing files of the write-ahead log failed; the next batch removes them" in capsys.readouterr().out
    assert LOCK not in s3.objects
    # Any subset: here, the rows `stored` are lost, and earlier rows remain.
    parts = sorted(key for key in s3.objects if key.startswith(LOG))
    for part in parts[len(parts) // 2 :]:
        del s3.objects[part]
    before = clips.rows()
    s3.requests.clear()
    assert run_batch(lines, clips.destination, "run-2")["stored"] == LINES
    assert clips.rows() == before
    assert not [request for request in s3.requests if request.method == "GET" and f"{LOG}/" in request.target]
    assert set(accepted(app.app).values()) == {1}
    assert count_log_parts(s3) == 0


@pytest.mark.slow
def test_running_batch_removes_the_log_after_each_results(app, manifest, bucket, monkeypatch):
    s3, root = bucket
    monkeypatch.setattr(run, "REPORT_INTERVAL_SECONDS", 0.2)
    app.app.state.tasks._synthesis_time = (600, 600)
    worker = threading.Thread(target=run_batch, args=(manifest(LINES), f"{root}clips/"), daemon=True)
    worker.start()
    wait_until(lambda: submits(app) == LINES)
    wait_until(lambda: any(map(is_removal, s3.requests)) and count_log_parts(s3) == 0)
    app.finish_all_tasks()
    worker.join(60)
    names = [request.target for request in s3.requests if is_removal(request) or "summary.json" in request.target]
    # Each removal follows a summary that covers what it removes.
    assert all("summary.json" in before for before, target in pairwise(names) if "delete" in target)


@pytest.mark.kill
def test_sigterm_leaves_no_lock_and_no_log(app, manifest, s3_clips, tmp_path):
    app.app.state.tasks._synthesis_time = (600, 600)
    with ChildProcess(
        batch_alone.main, [manifest(LINES), s3_clips.destination], output=tmp_path / "output.txt"
    ) as process:
        process.wait_until(lambda: submits(app) >= LINES // 2)
        process.send_signal(signal.SIGTERM)
        assert "was stopped by Airflow" in process.wait()
    fs = s3_clips.root.fs
    fs.invalidate_cache()
    assert not [name for name in fs.find(s3_clips.root.path) if ".mps-batch" in name]
    assert s3_clips.statuses()["processing"] == len(accepted(app.app))


NO_MD5 = b"<Error><Code>MissingContentMD5</Code><Message>Missing required header: Content-Md5.</Message></Error>"


def test_log_is_removed_one_by_one_if_the_server_rejects_the_bulk_request(app, manifest, monkeypatch):
    """Some servers of the S3 API require Content-MD5 for it."""
    monkeypatch.setattr(run, "REPORT_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(run, "REPORT_INTERVAL_FACTOR", 1)
    monkeypatch.setitem(
        conditional_s3._OPERATIONS, ("POST", "delete"), lambda _: (400, {"Content-Type": "application/xml"}, NO_MD5)
    )
    with ConditionalS3() as s3:
        conn_id, connection, root = s3.connection()
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        assert run_batch(manifest(LINES), f"{root}clips/")["stored"] == LINES
        assert run_batch(manifest(LINES), f"{root}others/")["stored"] == LINES
        assert len(list(filter(is_removal, s3.requests))) == 1
        assert not [key for key in s3.objects if "/journal/" in key]
