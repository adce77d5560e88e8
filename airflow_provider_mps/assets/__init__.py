"""What Airflow's assets know of this provider's URIs."""
