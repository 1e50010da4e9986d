"""Rows in and out of object storage: sources, sinks, ledger."""
