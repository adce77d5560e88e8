import json
import subprocess
import sys

UNWANTED = {
    "provider_info": {"tencentcloud", "airflow"},
    "emulator.app": {"tencentcloud", "airflow"},
    "fs.cos": {"tencentcloud", "s3fs", "aiobotocore"},
    "assets.cos": {"tencentcloud", "s3fs", "aiobotocore"},
    "hooks.mps": {"tencentcloud"},
    "sensors.text_to_speech": {"tencentcloud"},
    "operators.text_to_speech": {"tencentcloud"},
    "triggers.text_to_speech": {"tencentcloud"},
}
"""What importing a module must not import. One Python imports one module after the other, the strictest first."""

IMPORTS = """
import importlib, json, sys
found = {}
for module, unwanted in json.loads(sys.argv[1]).items():
    importlib.import_module("airflow_provider_mps." + module)
    found[module] = sorted(name for name in sys.modules if name.split(".")[0] in unwanted)
print(json.dumps(found))
"""


def test_a_module_does_not_import_what_it_may_never_need():
    modules = json.dumps({module: sorted(unwanted) for module, unwanted in UNWANTED.items()})
    done = subprocess.run([sys.executable, "-c", IMPORTS, modules], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {module: [] for module in UNWANTED}


def test_a_call_needs_nothing_of_the_sdks_model_modules(emulator):
    code = (
        "from airflow_provider_mps.hooks.mps import MpsHook; import sys; MpsHook().submit_text_to_speech('hi', 'v');"
        "print([name for name in sys.modules if name.startswith('tencentcloud.mps')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
