"""Triggers that wait for remote jobs."""
