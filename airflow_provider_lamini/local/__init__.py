"""A local platform that speaks the Lamini API: for laptops and tests, on CPU, without an account.

``lamini-local serve`` runs it. Nothing else in the provider imports it.
"""

from __future__ import annotations

from typing import Final

DEFAULT_KEY: Final = "local-platform-key"
"""API key on loopback if none is set. Only programs on this machine reach loopback.

Airflow masks the key of a connection in logs, so this is not a word that occurs in them.
"""
