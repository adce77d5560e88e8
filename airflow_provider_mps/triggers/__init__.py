"""Triggers: what waits inside Airflow's triggerer."""
