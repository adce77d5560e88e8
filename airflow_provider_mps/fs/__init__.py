"""Filesystems for ``ObjectStoragePath``."""

from __future__ import annotations

from importlib.metadata import version


def register_cos_with_upath() -> None:
    """Register the parsing rules of ``cos://``. Remove after Airflow 3.1: later ones load them by an entry point."""
    if version("universal-pathlib").startswith("0.2."):
        from airflow_provider_mps.fs import cos_path  # noqa: F401
