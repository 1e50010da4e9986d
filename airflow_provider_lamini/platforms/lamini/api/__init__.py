"""The Lamini API, one module per resource, one function per operation."""
