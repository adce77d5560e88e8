"""What `make` runs: the demo, and a whole Airflow with the emulator beside it."""
