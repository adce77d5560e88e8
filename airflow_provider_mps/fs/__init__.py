"""Filesystems for ``ObjectStoragePath``."""
