"""What a remote job is: states, kinds, polling decisions, the shared watch. Imports no Airflow."""
