"""What containers can ask the agent at 169.254.170.2."""
