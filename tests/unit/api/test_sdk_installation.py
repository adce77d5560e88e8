import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tencentcloud

from airflow_provider_mps.api.client import AsyncClient, make_async_client
from airflow_provider_mps.api.connection import MpsConnection

INTERNATIONAL = "tencentcloud-sdk-python-intl-en"

# One process for all folders: importing Airflow takes longer than the rest.
MAKE_CLIENTS = """
import json, sys
from airflow_provider_mps.hooks.mps import MpsHook

def unload_sdk():
    for name in list(sys.modules):
        is_importer = name.rpartition("api.")[2] in {"client", "credentials", "network_errors"}
        if is_importer or name.split(".")[0] == "tencentcloud":
            del sys.modules[name]

outcomes = {}
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    try:
        outcomes[folder] = type(MpsHook().get_conn()).__name__
    except Exception as error:
        outcomes[folder] = f"{type(error).__name__}: {error}"
    unload_sdk()
    sys.path.remove(folder)
print(json.dumps(outcomes))
"""


def install_sdk(folder, version, edition=None, without=()):
    """Make a folder with the SDK's files and, for an edition, its metadata."""
    shutil.copytree(
        Path(tencentcloud.__file__).parent / "common",
        folder / "tencentcloud" / "common",
        ignore=shutil.ignore_patterns("__pycache__", *without),
    )
    (folder / "tencentcloud" / "__init__.py").write_text(f"__version__ = {version!r}\n" if version else "")
    if edition:
        record = folder / f"{edition.replace('-', '_')}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {edition}\nVersion: {version}\n")
    return str(folder)


def test_unusable_sdk_names_packages_to_uninstall(tmp_path, connect):
    connect("tencent-mps://id:key@mps.invalid/http")
    async_client = ("common_client_async.py",)
    old = install_sdk(tmp_path / "old", "3.0.1000", INTERNATIONAL)
    old_async = install_sdk(tmp_path / "old_async", "3.0.1000", INTERNATIONAL, without=async_client)
    old_full = install_sdk(tmp_path / "old_full", "3.0.1500", "tencentcloud-sdk-python")
    new = install_sdk(tmp_path / "new", "3.1.193", INTERNATIONAL)
    vendored = install_sdk(tmp_path / "vendored", "3.1.99")
    removed = install_sdk(tmp_path / "removed", "3.1.193", without=("credential.py",))
    half_removed = install_sdk(tmp_path / "half_removed", "")
    folders = [old, old_async, old_full, new, vendored, removed, half_removed]
    done = subprocess.run([sys.executable, "-c", MAKE_CLIENTS, *folders], capture_output=True, text=True, check=True)
    outcomes = json.loads(done.stdout.splitlines()[-1])

    assert outcomes.pop(new) == "Client"
    for folder, outcome in outcomes.items():
        assert outcome.startswith("InvalidMpsConnectionError: The Tencent Cloud SDK in "), (folder, outcome)
        assert folder in outcome
        assert "pip install --force-reinstall --no-deps 'tencentcloud-sdk-python-common>=3.1.100'" in outcome
        assert ("pip uninstall -y" in outcome) == (folder in {old, old_async, old_full})
    for folder in (old, old_async):
        assert f"{INTERNATIONAL} 3.0.1000 shares files with" in outcomes[folder]
        assert f"pip uninstall -y {INTERNATIONAL} &&" in outcomes[folder]
    assert "pip uninstall -y tencentcloud-sdk-python &&" in outcomes[old_full]
    assert "its version is 3.1.99" in outcomes[vendored]
    assert "credential" in outcomes[removed]


@pytest.mark.usefixtures("no_network_variables")
def test_async_client_has_all_attributes_of_sdk_client():
    connection = MpsConnection("my_conn", "mps.example", secret_id="id", secret_key="key")
    own = make_async_client(connection)
    sdks = super(AsyncClient, AsyncClient).__new__(AsyncClient)
    super(AsyncClient, sdks).__init__("mps", "2019-06-12", own.credential, "", own.profile)
    assert vars(own).keys() - {"connection"} == vars(sdks).keys()
    assert own.request_client == sdks.request_client
