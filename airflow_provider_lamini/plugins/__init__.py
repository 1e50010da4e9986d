"""Pages in Airflow's UI: the jobs of a connection, and what a task has done."""
