"""What is released: built twice, looked into, and read by those who publish it."""

import email
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from airflow_provider_mps import __version__
from dev.airflow_environment import REPOSITORY

pytestmark = pytest.mark.xdist_group("distribution")  # which is built once


def build(folder):
    # Another day and another umask must not show in it.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(folder), str(REPOSITORY)]
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
    tracked = subprocess.run(
        ["git", "ls-files", "airflow_provider_mps"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert all(name.startswith("airflow_provider_mps/") for name in names)
    assert {"airflow_provider_mps/py.typed", "airflow_provider_mps/player/static/listen.html"} <= names
    if tracked.returncode == 0:
        assert names == set(tracked.stdout.split())


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


def test_every_requirement_has_a_lower_bound(metadata):
    for requirement in metadata.get_all("Requires-Dist"):
        name = requirement.partition(";")[0].strip()
        assert ">=" in name or name.startswith(("airflow-provider-mps[", "celery<")), requirement


def test_changelog_has_this_version():
    assert f"\n## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
