"""Sensors: waiting for MPS."""
