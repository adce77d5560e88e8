"""Airflow's own commands and ours, as a user types them."""

import json
import os
import re
import signal
import subprocess
import sys
import wave

import pytest

from dev.airflow_environment import REPOSITORY, run_airflow


@pytest.fixture
def airflow(airflow_database):
    """Run an airflow command with today's environment."""
    return lambda *arguments: run_airflow(dict(os.environ), *arguments, check=False)


def test_airflow_lists_the_provider(airflow):
    assert "airflow-provider-mps" in airflow("providers", "list").stdout


def test_airflow_registers_connection_type_and_hook(airflow):
    assert "tencent_mps" in airflow("providers", "hooks").stdout


@pytest.mark.slow
def test_connection_test_succeeds_against_the_emulator(airflow, emulator):
    done = airflow("connections", "test", "mps_default")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Connection success" in done.stdout


@pytest.mark.slow
def test_connection_test_with_wrong_key_says_what_to_fix(airflow, emulator, connect):
    connect(emulator.connection_uri.replace("emulator-key", "wrong-key-of-mine"))
    done = airflow("connections", "test", "mps_default")
    assert "Check Password (SecretKey)." in re.sub(r"\s+", " ", done.stdout)
    assert "wrong-key-of-mine" not in done.stdout + done.stderr


@pytest.fixture
def lineage(tmp_path):
    """An OpenLineage that writes to a file, and what it has written of a task's end."""
    file = tmp_path / "lineage.json"
    setting = {"TYPE": "file", "LOG_FILE_PATH": str(file), "APPEND": "true"}
    environment = {**os.environ, **{f"OPENLINEAGE__TRANSPORT__{name}": value for name, value in setting.items()}}

    def of(task_id):
        events = [json.loads(line) for line in file.read_text().splitlines()]
        (end,) = (e for e in events if e["eventType"] == "COMPLETE" and e["job"]["name"].endswith(f".{task_id}"))
        return end

    return environment, of


@pytest.mark.airflow_standalone
def test_demo_prints_a_table_and_stores_a_wav(tmp_path, lineage):
    environment, lineage_of = lineage
    done = subprocess.run(
        [sys.executable, "-m", "dev.demo", "--destination", f"file://{tmp_path}/"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = dict(re.findall(r"^  (Stored at|VoiceId|Duration|Size|CRC-64) +(.+)$", done.stdout, re.MULTILINE))
    assert len(table) == 5
    with wave.open(table["Stored at"].removeprefix("file://")) as audio:
        assert f"{audio.getnframes() / audio.getframerate()} s" == table["Duration"]
    stored = lineage_of("store")
    assert [f"file://{output['name']}" for output in stored["outputs"]] == [table["Stored at"]]
    assert stored["inputs"][0]["name"].startswith("/async_dubbing/")
    assert "sign=" not in json.dumps(stored)


def emulator_command(*arguments):
    return [sys.executable, "-m", "airflow_provider_mps.emulator", *arguments]


def test_emulator_prints_a_working_connection_and_stops(connect):
    process = subprocess.Popen(
        emulator_command("--port", "0", "--voice", "tone"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        printed = ""
        while "export" not in printed:
            line = process.stdout.readline()
            assert line, "the emulator ended"
            printed += line
        assert "memory" in printed
        connect(re.search("AIRFLOW_CONN_MPS_DEFAULT='(.+)'", printed)[1])
        from airflow_provider_mps.hooks.mps import MpsHook

        assert MpsHook().test_connection()[0]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_emulator_help_names_every_option():
    help_text = subprocess.run(emulator_command("--help"), capture_output=True, text=True, check=True).stdout
    options = "host port synthesis-time latency rate-limit link-lifetime secret-id secret-key token voice audio-fault"
    for option in options.split():
        assert f"--{option} " in help_text
    assert "[fail]" in help_text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--synthesis-time", "-1"],
        ["--synthesis-time", "9-3"],
        ["--synthesis-time", "3-x"],
        ["--rate-limit", "0"],
        ["--port", "x"],
        ["--voice", "opera"],
        ["--audio-fault", "explode"],
        ["--audio-fault", "truncate:0"],
    ],
)
def test_emulator_rejects_invalid_options(arguments):
    done = subprocess.run(emulator_command(*arguments), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_emulator_names_a_port_that_is_in_use(emulator):
    done = subprocess.run(
        emulator_command("--port", str(emulator.port)), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 1
    assert str(emulator.port) in done.stderr
    assert "--port" in done.stderr
