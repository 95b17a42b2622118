"""Container runtimes behind one contract. Never decides what should run."""
