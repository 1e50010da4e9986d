"""Datasets for tuning: rows as JSON Lines on disk, and the two ways in which they are uploaded."""
