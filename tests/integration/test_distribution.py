"""What is released: built twice, looked into, and read by those who publish it."""

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

from airflow_provider_mps import __version__
from dev.airflow_environment import EXAMPLE_DAGS, REPOSITORY
from tests.examples import EXAMPLES

pytestmark = pytest.mark.xdist_group("distribution")  # which is built once


LIST_PROVIDER_EXAMPLES = """
import json, sys
from pathlib import Path
sys.path.insert(0, ".")
for name in ("numpy", "pysubs2", "soundfile", "soxr"):
    sys.modules[name] = None  # the packages of the extras
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag
found = []
for bundle in DagBundlesManager().get_all_dag_bundles():
    if bundle.name.startswith("airflow-provider-mps"):
        assert bundle.path == Path("airflow_provider_mps/example_dags").resolve(), bundle.path
        bag = DagBag(bundle.path, bundle_path=bundle.path)
        assert not bag.import_errors, bag.import_errors
        found += bag.dag_ids
print(json.dumps(sorted(found)))
"""


def build(folder, *options):
    # Another day and another umask must not show in it.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(folder), *options, str(REPOSITORY)]
    subprocess.run(command, check=True, env=environment)
    return {path.suffix: path for path in folder.iterdir() if path.suffix in {".whl", ".gz"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built[".whl"]) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    return email.message_from_bytes(wheel.read(f"airflow_provider_mps-{__version__}.dist-info/METADATA"))


def test_build_is_reproducible_to_the_byte(built, tmp_path):
    again = build(tmp_path)
    assert {kind: path.read_bytes() for kind, path in again.items()} == {
        kind: path.read_bytes() for kind, path in built.items()
    }


def test_wheel_holds_only_the_package(wheel):
    command = ["git", "ls-files", "airflow_provider_mps", "example_dags"]
    tracked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert all(name.startswith("airflow_provider_mps/") for name in names)
    assert {"airflow_provider_mps/py.typed", "airflow_provider_mps/player/static/listen.html"} <= names
    if tracked.returncode == 0:
        places = {
            name.replace("example_dags/", "airflow_provider_mps/example_dags/") for name in tracked.stdout.split()
        }
        assert names == places


def test_wheel_from_repository_equals_wheel_from_source_archive(built, tmp_path):
    # `uv build` makes the wheel from the source archive, `pip install .` from the repository.
    direct = build(tmp_path, "--wheel")
    assert direct[".whl"].read_bytes() == built[".whl"].read_bytes()


def test_wheel_holds_every_example_dag_unchanged(wheel):
    examples = {path.name: path.read_bytes() for path in EXAMPLE_DAGS.glob("*.py")}
    prefix = "airflow_provider_mps/example_dags/"
    packed = [name for name in wheel.namelist() if name.startswith(prefix)]
    assert {name.removeprefix(prefix): wheel.read(name) for name in packed} == examples


@pytest.mark.slow
@pytest.mark.parametrize("load_examples", [False, True])
def test_airflow_loads_packed_examples_only_with_load_examples(built, tmp_path, load_examples):
    """Airflow 3.3 and later load the examples of every provider, if ``[core] load_examples`` is on."""
    with zipfile.ZipFile(built[".whl"]) as archive:
        archive.extractall(tmp_path)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": str(load_examples),
    }
    command = [sys.executable, "-c", LIST_PROVIDER_EXAMPLES]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dags = sorted(dag_id for _, dag_id in EXAMPLES)
    assert json.loads(done.stdout.splitlines()[-1]) == (dags if load_examples else [])


def test_editable_installation_has_no_copy_of_the_examples(tmp_path):
    packages = tmp_path / "packages"
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), "--editable", str(REPOSITORY)]
    subprocess.run([sys.executable, "-m", *command], check=True)
    installed = {path.name for path in packages.iterdir() if path.suffix != ".dist-info"}
    assert installed - {".lock"} == {"_airflow_provider_mps.pth"}
    assert (packages / "_airflow_provider_mps.pth").read_text() == str(REPOSITORY)


def test_source_holds_what_builds_and_tests_it(built):
    with tarfile.open(built[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile"}
    assert expected <= names
    assert not [name for name in names if name.startswith((".venv", "build", ".airflow", ".ci/"))]


def test_publishing_checks_find_no_fault(built):
    for command in (["twine", "check", "--strict", *built.values()], ["check_wheel_contents", built[".whl"]]):
        done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_metadata_describe_the_package(metadata):
    assert metadata["Name"] == "airflow-provider-mps"
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= set(metadata.get_all("Classifier"))
    assert metadata.get_all("Project-URL")
    assert "# airflow-provider-mps" in metadata.get_payload()


def test_description_has_no_link_that_needs_the_repository(metadata):
    targets = re.findall(r"\]\(([^)\s]+)\)", metadata.get_payload())
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    source = dict(line.split(", ") for line in metadata.get_all("Project-URL"))["Source"]
    files = [target.split(f"/v{__version__}/")[1] for target in targets if target.startswith(f"{source}/")]
    assert {"docs/images/listen.png", "docs/index.md", "example_dags"} <= set(files)
    assert all((REPOSITORY / file.partition("#")[0]).exists() for file in files)


def test_every_requirement_has_a_lower_bound(metadata):
    for requirement in metadata.get_all("Requires-Dist"):
        name = requirement.partition(";")[0].strip()
        assert ">=" in name or name.startswith(("airflow-provider-mps[", "celery<")), requirement


def test_changelog_has_this_version():
    assert f"\n## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
