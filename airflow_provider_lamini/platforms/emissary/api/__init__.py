"""Emissary's operations. Each is a function that returns a typed request."""
