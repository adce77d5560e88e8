"""Do once over all attempts of a task what MPS bills or counts, with the help of Airflow's task state store."""
