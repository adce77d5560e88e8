"""The hook for Tencent Cloud MPS."""
