"""The audit log: who asked what, from where, and what came of it; append-only, in a chain of hashes, with signed checkpoints."""
