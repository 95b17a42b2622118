"""The front door: requests in, one store transaction or view each, answers out. Never calls a controller or an agent."""
