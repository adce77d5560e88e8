import re
import signal
import subprocess
import sys
from types import SimpleNamespace

from tests.unit.emulator.client import SUBMIT, Client
from tests.unit.emulator.raw_http import ask, connect, read


def test_faults_of_the_command_line_are_met_in_order_and_let_the_emulator_stop():
    options = "--port 0 --voice tone --synthesis-time 0 --audio-fault not-found --audio-fault stall:always"
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_mps.emulator", *options.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(re.search(r":(\d+);", process.stdout.readline())[1])
        client = Client(SimpleNamespace(url=f"http://127.0.0.1:{port}", port=port))
        link = client.finished(client.call("TextToSpeechAsync", SUBMIT)["TaskId"])["AudioUrl"]
        assert ask(link).status == 404
        with connect(link) as connection:
            assert read(connection).end == "open"
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert "meets the fault stall" in told
        assert "Traceback" not in told
    finally:
        process.kill()
