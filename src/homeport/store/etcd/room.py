"""Room in etcd: says when a member's database is as large as it may be, and makes room where that is ours to do.

Owns: `full`, `make_room` and the loop `keep_room`. Never removes anything of the state or its journal: only what etcd keeps of the past.
"""

from __future__ import annotations

from typing import Final

from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.log import logger
from homeport.store.etcd import messages
from homeport.store.etcd.client import EtcdClient

LOOK_SECONDS: Final = 10.0
"""Time between two looks."""
AGAIN_SECONDS: Final = 600.0
"""How long to leave an etcd alone in which no room could be made: defragmenting stops a member for a while."""
DEFRAGMENT_SECONDS: Final = 300.0
"""How long one member may take (about 1 s for every 100 MB)."""

_LOG: Final = logger("etcd")


async def full(client: EtcdClient) -> bool:
    """Whether etcd refuses to write for want of room (alarm NOSPACE). Raises EtcdUnavailableError."""
    _, request, _ = messages.CALLS["Alarm"]
    answer = await client.read(request(action=messages.ALARM_GET), name="Alarm")
    return any(alarm.alarm == messages.NOSPACE for alarm in answer.alarms)


async def make_room(client: EtcdClient) -> int:
    """Drop what etcd keeps of the past, member by member, and let it write again; returns the bytes that became free at the first member.

    A follower that was far behind reads everything anew afterwards. Raises EtcdUnavailableError, EtcdRefusedError.
    """
    revision = (await client.read(messages.RangeRequest(key=b"\0"))).header.revision
    _, compact, _ = messages.CALLS["Compact"]
    _, defragment, _ = messages.CALLS["Defragment"]
    _, alarm, _ = messages.CALLS["Alarm"]
    before = await _size(client)
    await client.call("Compact", compact(revision=revision, physical=True), seconds=DEFRAGMENT_SECONDS)
    for endpoint in client.endpoints:
        await client.call("Defragment", defragment(), at=endpoint, seconds=DEFRAGMENT_SECONDS)
    answer = await client.call("Alarm", alarm(action=messages.ALARM_GET))
    for raised in answer.alarms:
        if raised.alarm == messages.NOSPACE:
            await client.call("Alarm", alarm(action=messages.ALARM_DEACTIVATE, member_id=raised.member_id, alarm=messages.NOSPACE))
    return before - await _size(client)


async def _size(client: EtcdClient) -> int:
    _, status, _ = messages.CALLS["Status"]
    return int((await client.call("Status", status(), at=client.endpoints[0])).db_size)


async def keep_room(client: EtcdClient, clock: Clock, *, ours: bool) -> None:
    """Look for ever, say in the log when etcd is full, and make room when it is `ours` (started by Homeport)."""
    while True:
        pause = LOOK_SECONDS
        try:
            if await full(client):
                _LOG.error("etcd is full (alarm NOSPACE): nothing can be changed; reads go on")
                if ours:
                    freed = await make_room(client)
                    _LOG.warning("made room in etcd: %d bytes", freed)
                    pause = LOOK_SECONDS if freed > 0 else AGAIN_SECONDS
        except HomeportError as error:
            _LOG.warning("cannot see to the room in etcd: %s", error)
        await clock.sleep(pause)
