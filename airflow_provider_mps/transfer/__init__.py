"""How an audio is moved; :mod:`airflow_provider_mps.audio` is the way in."""
