"""Move audio into object storage: download, verify, write, commit."""
