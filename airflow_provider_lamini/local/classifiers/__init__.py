"""Classifiers: projects with classes and examples, training on embedding vectors, and calibrated probabilities."""
