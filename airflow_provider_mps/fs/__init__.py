"""Filesystems for ``ObjectStoragePath``."""

from __future__ import annotations


def register_cos_with_upath() -> None:
    """Register the parsing rules of ``cos://``. Remove after Airflow 3.1: later ones load them by an entry point."""
    import upath  # ObjectStoragePath has imported it; importlib.metadata would take 1 ms of each import

    if upath.__version__.startswith("0.2."):  # type: ignore[attr-defined]
        from airflow_provider_mps.fs import cos_path  # noqa: F401
