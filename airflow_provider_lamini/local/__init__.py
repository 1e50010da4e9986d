"""A local platform that speaks the Lamini API."""
