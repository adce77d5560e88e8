import json
import subprocess
import sys
import tomllib

import pytest

from dev.airflow_environment import REPOSITORY

UNWANTED = {
    "get_provider_info": {"tencentcloud", "airflow"},
    "emulator.app": {"tencentcloud", "airflow"},
    "fs.cos": {"tencentcloud", "s3fs", "aiobotocore"},
    "assets.cos": {"tencentcloud", "s3fs", "aiobotocore"},
    "hooks.mps": {"tencentcloud"},
    "sensors.text_to_speech": {"tencentcloud"},
    "operators.text_to_speech": {"tencentcloud"},
    "decorators.text_to_speech": {"tencentcloud"},
    "triggers.text_to_speech": {"tencentcloud"},
}
"""Packages that a module must not import. One process imports them in this order, the strictest first."""

IMPORTS = """
import importlib, json, sys
found = {}
for module, unwanted in json.loads(sys.argv[1]).items():
    importlib.import_module("airflow_provider_mps." + module)
    found[module] = sorted(name for name in sys.modules if name.split(".")[0] in unwanted)
print(json.dumps(found))
"""


def test_modules_do_not_import_unneeded_packages():
    modules = json.dumps({module: sorted(unwanted) for module, unwanted in UNWANTED.items()})
    process = subprocess.run([sys.executable, "-c", IMPORTS, modules], capture_output=True, text=True, check=True)
    assert json.loads(process.stdout.splitlines()[-1]) == {module: [] for module in UNWANTED}


DAG_IMPORTS = """
import json, sys
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
from airflow.providers.common.compat.sdk import DecoratedOperator
from airflow.triggers.base import BaseTrigger
imported = set(sys.modules)
import airflow_provider_mps.decorators.text_to_speech
import airflow_provider_mps.hooks.mps
import airflow_provider_mps.operators.batch
import airflow_provider_mps.operators.text_to_speech
import airflow_provider_mps.operators.track
import airflow_provider_mps.sensors.text_to_speech
import airflow_provider_mps.triggers.text_to_speech
print(json.dumps(sorted(set(sys.modules) - imported)))
"""
NEEDED_BY_CALLS = (
    "aiobotocore",
    "boto3",
    "botocore",
    "certifi",
    "charset_normalizer",
    "cryptography",
    "fastcrc",
    "httpcore",
    "httpx",
    "numpy",
    "requests",
    "s3fs",
    "soundfile",
    "soxr",
    "tenacity",
    "tencentcloud",
    "urllib3",
    # Of this package: the modules that only a running task needs.
    "airflow_provider_mps.api.actions",
    "airflow_provider_mps.api.client",
    "airflow_provider_mps.api.connection",
    "airflow_provider_mps.api.connection_lookup",
    "airflow_provider_mps.api.network_settings",
    "airflow_provider_mps.batch.line",
    "airflow_provider_mps.batch.lock_holder",
    "airflow_provider_mps.batch.run",
    "airflow_provider_mps.batch.track.options",
    "airflow_provider_mps.durable.submit",
    "airflow_provider_mps.durable.synthesis",
    "airflow_provider_mps.polling.poller",
    "airflow_provider_mps.speech.ext_param",
    "airflow_provider_mps.speech.request",
    "airflow_provider_mps.speech.synthesis",
    "airflow_provider_mps.storage.file",
    "airflow_provider_mps.storage.http",
    "airflow_provider_mps.storage.lineage",
    "airflow_provider_mps.storage.transfer",
    "airflow_provider_mps.storage.writers",
)
"""Modules that are imported when a task runs, not when a DAG is parsed."""


def test_dag_imports_nothing_that_only_calls_need():
    process = subprocess.run([sys.executable, "-c", DAG_IMPORTS], capture_output=True, text=True, check=True)
    imported = json.loads(process.stdout.splitlines()[-1])
    assert [name for name in imported if name in NEEDED_BY_CALLS or name.split(".")[0] in NEEDED_BY_CALLS] == []
    # Of other packages, only Airflow's own modules.
    assert {name.split(".")[0] for name in imported} - {"airflow", "airflow_provider_mps"} == set()


def test_call_does_not_import_sdk_models(emulator):
    code = (
        "from airflow_provider_mps.hooks.mps import MpsHook; import sys; MpsHook().submit_text_to_speech('hi', 'v');"
        "print([name for name in sys.modules if name.startswith('tencentcloud.mps')])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "[]"


def test_emulator_contract_lists_the_rest_of_the_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [each for each in settings["contracts"] if each["name"].startswith("The emulator does not import")]
    package = REPOSITORY / "airflow_provider_mps"
    files = [*package.glob("*.py"), *(file.parent for file in package.glob("*/__init__.py"))]
    others = {file.stem for file in files} - {"__init__", "emulator"}
    assert sorted(contract["forbidden_modules"]) == sorted(f"{package.name}.{name}" for name in others)


CONCURRENT_IMPORTS = """
import builtins, importlib, sys, threading, time

package, module = sys.argv[1:]
is_half_imported, may_continue = threading.Event(), threading.Event()
errors = []
builtin_import = builtins.__import__


def pausing_import(name, globals=None, locals=None, fromlist=(), level=0):
    is_in_package = globals is not None and globals["__name__"] == package
    if is_in_package and threading.current_thread() is first and not is_half_imported.is_set():
        is_half_imported.set()
        may_continue.wait()
    return builtin_import(name, globals, locals, fromlist, level)


def run(name):
    try:
        importlib.import_module(name)
    except Exception as error:
        errors.append(f"{name}: {type(error).__name__}: {error}")


def waits_for_lock(thread):
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == "acquire"


builtins.__import__ = pausing_import
first = threading.Thread(target=run, args=(package,))
second = threading.Thread(target=run, args=(module,))
first.start()
assert is_half_imported.wait(60)
second.start()
while second.is_alive() and not waits_for_lock(second):
    time.sleep(0.01)
time.sleep(0.1)  # it may only have taken a free lock
may_continue.set()
first.join()
second.join()
print(errors)
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["api.client", "storage.http"])
def test_import_while_another_thread_imports_requests(module):
    command = [sys.executable, "-c", CONCURRENT_IMPORTS, "requests", f"airflow_provider_mps.{module}"]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert process.stdout.splitlines()[-1] == "[]"
