"""The HTTP core: calls as data, and clients that send them. Knows no platform by name and imports no Airflow."""
