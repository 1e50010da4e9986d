"""The platforms' HTTP APIs as typed calls. Imports no Airflow."""
