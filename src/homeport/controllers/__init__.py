"""The loops: a dirty key, a transaction that asks a planner and applies its answer. Never keeps progress in memory."""
