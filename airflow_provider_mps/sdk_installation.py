"""
The installed Tencent Cloud SDK, and whether it can be used.

The SDK's full editions ship the same files as ``tencentcloud-sdk-python-common``. The one that pip installed last
overwrites the other's, and uninstalling one removes files of both.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from airflow_provider_mps.errors import InvalidMpsConnectionError

OLDEST_SDK = (3, 1, 100)
COMMON = "tencentcloud-sdk-python-common"
FULL_EDITIONS = ("tencentcloud-sdk-python-intl-en", "tencentcloud-sdk-python")


def unusable_sdk(problem: str) -> InvalidMpsConnectionError:
    """
    Make the error for an SDK that cannot be used: it says what to uninstall and what to install.

    :param problem: what is wrong, e.g. the text of an ``ImportError``
    """
    oldest = ".".join(map(str, OLDEST_SDK))
    install = f"pip install --force-reinstall --no-deps '{COMMON}>={oldest}'"
    editions = [f"{name} {found}" for name in FULL_EDITIONS if (found := _installed_version(name))]
    if editions:
        uninstall = f"pip uninstall -y {' '.join(name.partition(' ')[0] for name in editions)}"
        advice = f"{' and '.join(editions)} shares files with {COMMON}. Run {uninstall} && {install}"
    else:
        advice = f"Nothing was sent. Run {install}"
    where = _folder_of("tencentcloud")
    return InvalidMpsConnectionError(
        f"The Tencent Cloud SDK{f' in {where}' if where else ''} cannot be used: {problem}. {advice}."
    )


def require_usable_version(found: str) -> None:
    """
    Check the version that the imported SDK says it has: that of its files, whatever pip's records say.

    :param found: ``tencentcloud.__version__``
    :raises InvalidMpsConnectionError: if it is older than :data:`OLDEST_SDK`
    """
    parts = re.match(r"(\d+)\.(\d+)\.(\d+)", found)
    if parts and tuple(map(int, parts.groups())) < OLDEST_SDK:
        raise unusable_sdk(f"its version is {found}, and {'.'.join(map(str, OLDEST_SDK))} or newer is needed")


def _installed_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _folder_of(package: str) -> Path | None:
    spec = find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None
