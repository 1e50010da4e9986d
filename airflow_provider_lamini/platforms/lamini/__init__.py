"""The Lamini platform."""
