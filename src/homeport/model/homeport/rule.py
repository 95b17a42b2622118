"""A rule: what must hold of task definitions, tasks, services, task sets and daemons of an account.

Owns: `Rule`, its modes and the kinds of objects that it can look at. Never evaluates (`homeport.rules` does).
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record

ENFORCE: Final = "ENFORCE"
"""What violates the rule is refused, and reported where it exists already."""
REPORT: Final = "REPORT"
"""Nothing is refused: the report says what would be."""
MODES: Final = (ENFORCE, REPORT)

TASK_DEFINITION: Final = "task-definition"
DAEMON_TASK_DEFINITION: Final = "daemon-task-definition"
SERVICE: Final = "service"
TASK_SET: Final = "task-set"
DAEMON: Final = "daemon"
TASK: Final = "task"
KINDS: Final = (TASK_DEFINITION, DAEMON_TASK_DEFINITION, SERVICE, TASK_SET, DAEMON, TASK)
"""The kinds of objects, in the order in which a report looks at them."""


class Rule(Record, frozen=True, kw_only=True):
    """A rule of an account. Exactly one of `require` and `violations` is there."""

    account: str
    name: str
    mode: str
    message: str = ""
    """What whoever is refused reads."""
    kinds: tuple[str, ...] = ()
    """Of `KINDS`; (): all."""
    clusters: tuple[str, ...] = ()
    """Patterns of names, in which `*` stands for any text; (): every cluster, and what is in none."""
    families: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """As `clusters`."""
    require: str = ""
    """JMESPath that must say true."""
    violations: str = ""
    """JMESPath of a list that must be empty."""
    version: int = 1
    """Grows with each PutRule of the name; the journal has the earlier ones."""
    created_at: Instant = 0.0
    updated_at: Instant = 0.0
    updated_by: str = ""
    """ARN of the principal whose call made this version."""

    @property
    def key(self) -> str:
        """ACCOUNT/NAME."""
        return f"{self.account}/{self.name}"
