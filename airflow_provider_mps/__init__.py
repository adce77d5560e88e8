"""Apache Airflow provider for Tencent Cloud Media Processing Service (MPS) text to speech."""

__version__ = "1.1.0"
