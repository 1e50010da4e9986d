"""HTTP endpoints: one module with one ``router`` per API resource."""
