"""Homeport: an open, self-hosted Amazon ECS.

This package never does anything at import: each program is started by `__main__`.
"""

from __future__ import annotations

__version__ = "0.1.0"
