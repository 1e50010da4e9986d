"""The Lamini API, one module per resource."""
