"""
Build the distribution of a release into ``dist/``, and refuse what must not be published.

CONTRIBUTING.md has the steps before and after.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from airflow_provider_mps import __version__
from dev.airflow_environment import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DIST = REPOSITORY / "dist"


def main() -> None:
    """Check the repository, build twice, compare and check the files, and print their SHA-256."""
    changelog, project = (REPOSITORY / "CHANGELOG.md").read_text(), (REPOSITORY / "pyproject.toml").read_text()
    urls = tomllib.loads(project)["project"]["urls"]
    status, tags = _git("status", "--porcelain"), _git("tag", "--points-at")
    untracked = _git("ls-files", "--others", "--exclude-per-directory=.gitignore")
    if problems := find_problems(__version__, changelog, urls, status, tags, untracked):
        sys.exit("This cannot be released:\n" + "\n".join(f"- {problem}" for problem in problems))
    shutil.rmtree(DIST, ignore_errors=True)
    files, again = _build(DIST), _build(REPOSITORY / "build" / "release")
    if [file.read_bytes() for file in files] != [file.read_bytes() for file in again]:
        sys.exit("Two builds of the same commit differ.")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    subprocess.run([sys.executable, "-m", "check_wheel_contents", *DIST.glob("*.whl")], check=True)
    for file in files:
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(REPOSITORY)}")


def find_problems(  # noqa: PLR0917 - what a release depends on
    version: str, changelog: str, urls: dict[str, str], status: str, tags: str, untracked: str
) -> list[str]:
    """
    Return why the repository cannot be released.

    :param status: output of ``git status --porcelain``
    :param tags: names of the tags of this commit, one on each line
    :param untracked: paths of files that neither Git nor ``.gitignore`` knows: ``git status`` omits those that the
        user's own configuration of Git ignores, but the build would pack them
    """
    problems = [f"Replace OWNER in the URL {name} of pyproject.toml." for name, url in urls.items() if "OWNER" in url]
    heading = re.search(r"^## (.+)$", changelog, re.MULTILINE)
    if not heading or not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}", heading[1]):
        problems.append(f"Let CHANGELOG.md start with the heading '## {version} - ' and the date.")
    if status.strip():
        problems.append("Commit or remove what `git status` lists.")
    elif untracked.strip():
        problems.append(f"Remove what only your own configuration of Git ignores: {', '.join(untracked.splitlines())}")
    if f"v{version}" not in tags.split():
        problems.append(f"Tag this commit: git tag --sign v{version}")
    return problems


def _build(folder: Path) -> list[Path]:
    """Return the files of a build, whose times are that of the commit."""
    shutil.rmtree(folder, ignore_errors=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct").strip()}
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, env=environment)
    return sorted(path for path in folder.iterdir() if path.suffix in {".gz", ".whl"})


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
