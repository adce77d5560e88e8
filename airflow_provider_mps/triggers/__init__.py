"""Triggers, which wait in Airflow's triggerer."""
