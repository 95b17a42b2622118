"""Fakes that users may import, held to the same suites as the real things. Never used by the programs."""
