"""One operator per capability of the platform."""
