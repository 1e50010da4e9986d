"""Waiting for what other tasks have begun."""
