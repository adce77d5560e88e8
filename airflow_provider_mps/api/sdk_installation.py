"""
Check the installed Tencent Cloud SDK.

The SDK's full editions ship the same files as ``tencentcloud-sdk-python-common``. The one that pip installed last
overwrites the other's files, and uninstalling one removes files of both.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from airflow_provider_mps.exceptions import InvalidMpsConnectionError

MIN_SDK_VERSION = (3, 1, 100)
COMMON_EDITION = "tencentcloud-sdk-python-common"
FULL_EDITIONS = ("tencentcloud-sdk-python-intl-en", "tencentcloud-sdk-python")


def make_sdk_error(problem: str) -> InvalidMpsConnectionError:
    """Make the error for an unusable SDK, which says what to uninstall and what to install."""
    install = f"pip install --force-reinstall --no-deps '{COMMON_EDITION}>={_join(MIN_SDK_VERSION)}'"
    editions = {name: found for name in FULL_EDITIONS if (found := _find_version(name))}
    if editions:
        names = " and ".join(f"{name} {found}" for name, found in editions.items())
        uninstall = f"pip uninstall -y {' '.join(editions)}"
        advice = f"{names} shares files with {COMMON_EDITION}. Run {uninstall} && {install}"
    else:
        advice = f"Nothing was sent. Run {install}"
    spec = find_spec("tencentcloud")
    where = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    return InvalidMpsConnectionError(
        f"The Tencent Cloud SDK{f' in {where}' if where else ''} cannot be used: {problem}. {advice}."
    )


def validate_sdk_version(found: str) -> None:
    """
    Check the version in the imported SDK's files, which may differ from pip's records.

    :raises InvalidMpsConnectionError: if it is older than :data:`MIN_SDK_VERSION`
    """
    parts = re.match(r"(\d+)\.(\d+)\.(\d+)", found)
    if parts and tuple(map(int, parts.groups())) < MIN_SDK_VERSION:
        raise make_sdk_error(f"its version is {found}, and {_join(MIN_SDK_VERSION)} or newer is needed")


def _join(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def _find_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
