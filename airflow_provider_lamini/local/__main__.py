"""Entry point of ``python -m airflow_provider_lamini.local``, the same as the ``lamini-local`` command."""

import sys

from airflow_provider_lamini.local.cli import main

sys.exit(main())
