"""Evaluation: how well a model's answers fit the right ones."""
