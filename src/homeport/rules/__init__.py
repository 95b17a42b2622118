"""Policy as tests: expressions over API objects, and what they say. Pure."""
