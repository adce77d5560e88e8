"""docs/storing.md, cos.md, verification.md and listening.md say what the code does."""

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mps import exceptions
from airflow_provider_mps.fs.cos_endpoint import CosEndpoint
from airflow_provider_mps.operators.batch import TextToSpeechBatchOperator
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator, TextToSpeechToObjectStorageOperator
from airflow_provider_mps.player import audio_file, decoder, threadpool, waveform
from airflow_provider_mps.sensors.text_to_speech import TextToSpeechTaskSensor
from airflow_provider_mps.storage import deadline, download, http, if_exists, pipe, progress, transfer
from airflow_provider_mps.storage.conditional_write import TOKEN_KEY
from airflow_provider_mps.storage.http_response import AudioMetadata, ResponseAction, classify_response
from airflow_provider_mps.storage.writers import base, local, s3, validate_protocol
from tests.docs.pages import DOCS, read_blocks, read_section, read_tables

STORING, COS, VERIFICATION = DOCS / "storing.md", DOCS / "cos.md", DOCS / "verification.md"
LISTENING = DOCS / "listening.md"
STORE_ARGUMENTS = inspect.signature(TextToSpeechToObjectStorageOperator).parameters
IAM_ACTIONS = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "list_parts": "s3:ListMultipartUploadParts",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "head_object": "s3:GetObject",
    "get_object": "s3:GetObject",
}


def read_policy_actions(page):
    (policy,) = (json.loads(block) for block in read_blocks(page, "json"))
    actions = set()
    for statement in policy.get("Statement", []) + policy.get("statement", []):
        action = statement.get("Action") or statement.get("action")
        actions |= {action} if isinstance(action, str) else set(action)
    return actions


def find_s3_requests():
    """Return the methods of the S3 API that storing a clip calls."""
    source = inspect.getsource(s3) + inspect.getsource(if_exists)
    return set(re.findall(r'(?:_call|_call_s3|_start_call|_send_commit)\(\s*"(\w+)"', source))


def test_every_scheme_of_the_page_is_accepted():
    schemes = set(re.findall(r"`?\b(\w+)://", STORING.read_text())) - {"https"}
    for scheme in schemes:
        validate_protocol(SimpleNamespace(protocol=scheme))


def test_page_has_every_scheme_that_the_error_names():
    with pytest.raises(exceptions.DestinationError) as caught:
        validate_protocol(SimpleNamespace(protocol="none"))
    named = re.search(r"Use (.+)\.", str(caught.value))[1]
    for scheme in re.split(", | or ", named):
        assert f"{scheme}://" in STORING.read_text()


def test_if_exists_table_has_every_value_and_default():
    table, *_ = read_tables(read_section(STORING, "What happens if the file exists?"))
    assert [json.loads(row["Value"].strip("`")) for row in table] == list(if_exists.IfExists)
    assert f'The default is `"{STORE_ARGUMENTS["if_exists"].default}"`' in STORING.read_text()
    assert f"`{TOKEN_KEY}`" in STORING.read_text()


def test_transfer_timeout_section_states_default_and_limits():
    section = read_section(STORING, "How long may a transfer take?")
    assert f"The default is {STORE_ARGUMENTS['transfer_timeout'].default:g} seconds (1 hour)" in section
    assert deadline.DEFAULT_TRANSFER_TIMEOUT_SECONDS == 3600
    assert f"take {pipe.UPLOAD_GRACE_SECONDS + pipe.DISCARD_TIMEOUT_SECONDS:g} seconds more" in section
    assert f"more than {progress.FIRST_LOG_SECONDS:g} seconds" in section
    assert f"every {progress.LOG_INTERVAL_SECONDS:g} seconds" in section


def test_exception_table_says_what_airflow_retries():
    (table,) = read_tables(read_section(STORING, "What can go wrong?"))
    for row in table:
        error_class = getattr(exceptions, row["Exception"].strip("`"))
        assert row["Retried by Airflow"] == ("No" if issubclass(error_class, AirflowFailException) else "Yes")


def test_s3_policy_allows_every_request():
    assert {IAM_ACTIONS[method] for method in find_s3_requests()} <= read_policy_actions(STORING)


def test_cos_policy_allows_every_request():
    names = {"create_multipart_upload": "InitiateMultipartUpload"}
    methods = find_s3_requests()
    needed = {names.get(method) or "".join(word.title() for word in method.split("_")) for method in methods}
    assert {f"name/cos:{name}" for name in needed} == read_policy_actions(COS)


def test_cos_page_states_the_default_endpoint():
    connection = SimpleNamespace(conn_id="a", cos_endpoint=None, region="REGION", proxy=None, timeout=1.0)
    assert f"`{CosEndpoint.from_connection(connection).endpoint}`" in COS.read_text()


def test_verified_by_is_what_the_log_says():
    table, *_ = read_tables(read_section(VERIFICATION, "What is compared before the file becomes visible?"))
    documented = [row['The log says "verified by"'].strip("`") for row in table]
    servers = [AudioMetadata(1, 1), AudioMetadata(1), AudioMetadata(crc64=1), AudioMetadata(is_chunked=True)]
    assert all(server.is_verifiable for server in servers)
    assert not AudioMetadata().is_verifiable
    said = [server.verification.partition(" (")[0] for server in servers]
    assert documented == [*said, ""]


def test_verification_states_part_sizes():
    text = VERIFICATION.read_text()
    assert base.PART_SIZE_BYTES == 8 * base.MIB
    assert "S3, below 8 MiB" in text
    assert "parts of 8 MiB" in text
    assert f"limit of {base.MAX_PARTS:,} parts" in text
    assert f"after {local._ABANDONED_SECONDS / 3600:g} hours" in text


def test_fault_table_lists_every_retried_status():
    (table,) = read_tables(read_section(VERIFICATION, "What happens for each fault of a download?"))
    row = next(row["Fault"] for row in table if "5xx" in row["Fault"])
    actions = {status: classify_response(status, {}, 0, AudioMetadata()) for status in range(400, 600)}
    retried = [status for status, action in actions.items() if action is ResponseAction.RETRY and status < 500]
    assert re.findall(r"\b4\d\d\b", row) == [str(status) for status in retried]
    refreshed = [status for status, action in actions.items() if action is ResponseAction.REFRESH_URL]
    assert f"({', '.join(map(str, refreshed))})" in read_section(
        VERIFICATION, "What happens for each fault of a download?"
    )


def test_fault_section_states_the_limits():
    section = " ".join(read_section(VERIFICATION, "What happens for each fault of a download?").split())
    assert f"no byte for {http.TIMEOUT_SECONDS[1]} seconds" in section
    assert f"up to {http.MAX_REDIRECTS} redirects" in section
    assert f"after {download.MAX_ATTEMPTS_WITHOUT_PROGRESS} attempts in a row" in section
    assert f"after {download.MAX_RESTARTS + 2} downloads from the first byte" in section
    assert f"after {download.MAX_ATTEMPTS} attempts" in section
    assert f"above {base.MAX_LENGTH_BYTES // 1024**4} TiB" in section


def test_quoted_log_words_exist_in_the_code():
    assert "verified by %s; the storage confirmed %s" in inspect.getsource(transfer)


@pytest.mark.parametrize(
    ("task", "operator"),
    [
        ("Submit", TextToSpeechOperator),
        ("Wait", TextToSpeechTaskSensor),
        ("Store", TextToSpeechToObjectStorageOperator),
        ("Batch", TextToSpeechBatchOperator),
    ],
)
def test_button_table_has_every_button(task, operator):
    (table,) = read_tables(read_section(LISTENING, "Buttons on a task instance"))
    buttons = {row["Button"].strip("*") for row in table if task.lower() in row["Task"].lower().split(", ")}
    assert buttons == {link.name for link in operator.operator_extra_links}


def test_listening_states_the_limits_of_the_view():
    text = " ".join(LISTENING.read_text().split())
    assert f"reads {decoder.BARS} places" in text
    assert f"up to {waveform.MAX_DECODED_BYTES // base.MIB} MiB" in text
    assert f"blocks of {audio_file.BLOCK_BYTES // base.MIB} MiB" in text
    assert f"reads {threadpool._THREADS.total_tokens:g} files at a time" in text
    assert f"gives up after {threadpool.TIMEOUT_SECONDS:g} seconds" in text
    assert f"after {waveform.TIMEOUT_SECONDS:g} seconds for a waveform" in text


def test_error_table_quotes_messages_of_the_view():
    (table,) = read_tables(read_section(LISTENING, "The view shows an error").partition("###")[0])
    folder = Path(audio_file.__file__).parent
    source = "".join(file.read_text() for file in (*folder.glob("*.py"), folder / "static" / "listen.js"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    for row in table:
        messages = re.findall(r"`([^`]+)`", row["The message contains"])
        assert messages, row
        for message in messages:
            assert message in source
