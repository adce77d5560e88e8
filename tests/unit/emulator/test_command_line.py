import re
import signal
import subprocess
import sys
from types import SimpleNamespace

from tests.unit.emulator.client import SUBMIT, Client
from tests.unit.emulator.raw_http import connect, fetch, read


def test_command_line_faults_come_in_order_and_do_not_block_stop():
    options = "--port 0 --voice tone --synthesis-time 0 --audio-fault not-found --audio-fault stall:always"
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_mps.emulator", *options.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(re.search(r":(\d+)$", process.stdout.readline())[1])
        client = Client(SimpleNamespace(url=f"http://127.0.0.1:{port}", port=port))
        link = client.finished(client.call("TextToSpeechAsync", SUBMIT)["TaskId"])["AudioUrl"]
        assert fetch(link).status == 404
        with connect(link) as connection:
            assert read(connection).end == "open"
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert "gets the fault stall" in output
        assert "Traceback" not in output
    finally:
        process.kill()
