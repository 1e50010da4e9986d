"""Operators for Emissary."""
