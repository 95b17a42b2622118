"""The security token service: one module per resource."""
