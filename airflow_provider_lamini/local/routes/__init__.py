"""The local platform's endpoints, one module per resource."""
