import subprocess
import sys

import pytest

IMPORTS = (
    "import airflow_provider_mps.{module}, sys; "
    "print([name for name in sys.modules if name.split('.')[0] in {unwanted}])"
)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("hooks.mps", {"tencentcloud"}),
        ("sensors.text_to_speech", {"tencentcloud"}),
        ("operators.text_to_speech", {"tencentcloud"}),
        ("triggers.text_to_speech", {"tencentcloud"}),
        ("provider_info", {"tencentcloud", "airflow"}),
        ("fs.cos", {"tencentcloud", "s3fs", "aiobotocore"}),
        ("assets.cos", {"tencentcloud", "s3fs", "aiobotocore"}),
        ("emulator.app", {"tencentcloud", "airflow"}),
    ],
)
def test_a_module_does_not_import_what_it_may_never_need(module, unwanted):
    code = IMPORTS.format(module=module, unwanted=unwanted)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_call_needs_nothing_of_the_sdks_model_modules(emulator):
    code = (
        "from airflow_provider_mps.hooks.mps import MpsHook; import sys; MpsHook().submit_text_to_speech('hi', 'v');"
        "print([name for name in sys.modules if name.startswith('tencentcloud.mps')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
