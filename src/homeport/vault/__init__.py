"""Secrets at rest: sealed by data keys, which root keys wrap, which are kept elsewhere."""
