import json
import subprocess
import sys
import tomllib

from dev.airflow_environment import REPOSITORY

UNWANTED = {
    "get_provider_info": {"tencentcloud", "airflow"},
    "emulator.app": {"tencentcloud", "airflow"},
    "fs.cos": {"tencentcloud", "s3fs", "aiobotocore"},
    "assets.cos": {"tencentcloud", "s3fs", "aiobotocore"},
    "hooks.mps": {"tencentcloud"},
    "sensors.text_to_speech": {"tencentcloud"},
    "operators.text_to_speech": {"tencentcloud"},
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
