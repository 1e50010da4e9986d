"""Tuning jobs train a LoRA adapter in a subprocess and serve the result as a model beside its base model."""
