"""Datasets for tuning: rows stored as JSON Lines files, uploaded in a request body or to a signed blob URL."""
