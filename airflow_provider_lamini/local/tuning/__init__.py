"""Tuning: jobs that train an adapter for a text model, and the models that come of it."""
