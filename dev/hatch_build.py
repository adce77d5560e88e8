"""Build hook: the description on the package index, where relative links of ``README.md`` would lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def make_links_absolute(markdown: str, source: str, version: str) -> str:
    """
    Return Markdown whose links and images lead to the files of a release.

    :param source: URL of the repository
    :param version: of the release, whose tag is ``v`` and this version
    """
    # A link that starts with "#", or has a scheme, stays as it is.
    relative = re.compile(r"(!?)(\[[^\[\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")

    def replace(link: re.Match[str]) -> str:
        image, text, path = link.groups()
        return f"{image}{text}({source}/{'raw' if image else 'blob'}/v{version}/{path})"

    return relative.sub(replace, markdown)


class CustomMetadataHook(MetadataHookInterface):
    """Fill the field ``readme``; the URL is that of ``Source`` in ``[project.urls]``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description of the package."""
        markdown = (Path(self.root) / "README.md").read_text()
        text = make_links_absolute(markdown, metadata["urls"]["Source"], metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
