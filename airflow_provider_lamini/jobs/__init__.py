"""Remote jobs of any platform: states, kinds, polling decisions, the shared watch. Imports no Airflow."""
