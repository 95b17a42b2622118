"""AWS's wire protocols, driven by botocore's service models. Never knows a single operation by name."""
