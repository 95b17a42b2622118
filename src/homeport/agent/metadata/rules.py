"""The packet rules that lead containers to this agent: one nftables table of its own for each agent, one rule for each container and port.

Owns: `Lead`, `script` (pure) and `NftRules`, which applies it. Never touches another table: two installations on a host have one each.
Each change replaces the whole table in one transaction of the kernel's; connections that are open stay as they are.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from homeport.agent.metadata.credentials import ADDRESS
from homeport.errors import HomeportError

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS_MAX: Final = 10.0


class RulesError(HomeportError):
    """nft is missing, or refused; the message says why."""

    temporary = True


class Lead(NamedTuple):
    """Packets of one source for one port of 169.254.170.2, and where they go."""

    source: str
    """A container's address; "" for programs in the host's own network."""
    port: int
    to_address: str
    to_port: int


class Rules(Protocol):
    """Leads containers to this agent."""

    async def apply(self, leads: Iterable[Lead]) -> None:
        """From now on these and no others; none at all: no trace is left. Raises RulesError."""
        ...


def script(table: str, leads: Iterable[Lead]) -> str:
    """What nft is to read so that `table` has these leads and nothing else."""
    fresh = f"add table ip {table}\ndelete table ip {table}\n"
    wanted = sorted(leads)
    if not wanted:
        return fresh
    own = [_rule(lead) for lead in wanted if lead.source]
    host = [_rule(lead) for lead in wanted if not lead.source]
    chains = [
        ("leads", "type nat hook prerouting priority -101; policy accept;", own),
        ("host_leads", "type nat hook output priority -101; policy accept;", host),
        # What nobody took, such as the first packet of a container that has just started, must not wander into the network: its sender repeats it.
        ("strays", "type filter hook forward priority -1; policy accept;", [f"ip daddr {ADDRESS} drop"]),
    ]
    body = "".join(f"  chain {name} {{\n    {hook}\n" + "".join(f"    {rule}\n" for rule in rules) + "  }\n" for name, hook, rules in chains)
    return f"{fresh}table ip {table} {{\n{body}}}\n"


def _rule(lead: Lead) -> str:
    source = f"ip saddr {lead.source} " if lead.source else ""
    return f"{source}ip daddr {ADDRESS} tcp dport {lead.port} dnat to {lead.to_address}:{lead.to_port}"


class NftRules:
    """Rules by the program nft, which must run as root."""

    def __init__(self, table: str) -> None:
        """`table`: a name that no other agent on this host has."""
        self._table = table

    async def apply(self, leads: Iterable[Lead]) -> None:
        """See `Rules`."""
        program = shutil.which("nft", path=SYSTEM_PATH)
        if program is None:
            raise RulesError("the program nft is not on this host (package nftables)")
        try:
            running = await asyncio.create_subprocess_exec(
                program, "-f", "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise RulesError(f"nft cannot be started: {error}") from error
        try:
            _, words = await asyncio.wait_for(running.communicate(script(self._table, leads).encode()), SECONDS_MAX)
        except TimeoutError:
            running.kill()
            raise RulesError(f"nft did not end within {SECONDS_MAX:.0f} s") from None
        if running.returncode != 0:
            raise RulesError(f"nft: {words.decode(errors='replace').strip()[:500]}")
