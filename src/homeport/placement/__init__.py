"""Where a task can run. Pure: requests and a fleet in, an instance or a reason per instance out. Never writes a record."""
