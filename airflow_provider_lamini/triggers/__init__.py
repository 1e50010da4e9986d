"""Triggers that watch remote jobs."""
