"""``python -m airflow_provider_lamini.local`` is ``lamini-local``."""

import sys

from airflow_provider_lamini.local.cli import main

sys.exit(main())
