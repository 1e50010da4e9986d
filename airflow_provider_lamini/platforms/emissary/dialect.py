"""Emissary on the wire: the key's header, and the fields that must not be shown."""

from __future__ import annotations

from airflow_provider_lamini.api.dialect import Dialect

EMISSARY_DIALECT = Dialect(
    key_header="X-API-Key",
    key_prefix="",
    data_fields=frozenset({"input", "messages", "prompt", "target"}),
)
