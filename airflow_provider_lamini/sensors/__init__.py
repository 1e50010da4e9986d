"""Sensors for jobs that other tasks have started."""
