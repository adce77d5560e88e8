"""Sensors, which wait for MPS."""
