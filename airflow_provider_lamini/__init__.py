"""Apache Airflow provider for LLM platforms with a job API."""

__version__ = "0.1.0"
