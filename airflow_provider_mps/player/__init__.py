"""The Listen view in the UI of Airflow 3.1 and later."""
