"""Classifiers: projects of classes and examples, training on their vectors, and calibrated probabilities."""
