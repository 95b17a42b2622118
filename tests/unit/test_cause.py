"""Causes are read as they are written."""

from __future__ import annotations

from homeport.api.call import Call
from homeport.model.arn import root_arn
from homeport.model.cause import parse_cause
from homeport.model.ecs.cluster import Cluster
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT


async def test_what_a_call_writes_is_read():
    cell = await MemoryCell.open()
    call = Call(context=cell.context, operation="UpdateService", request_id=cell.context.ids.uuid(), account=ACCOUNT, principal_arn=root_arn(ACCOUNT))
    from homeport.store.tables import CLUSTERS

    await call.update(lambda tx: tx.put(CLUSTERS, Cluster(account=ACCOUNT, name="c", status="ACTIVE", created_at=tx.now)))
    (entry,) = await cell.store.journal.entries(cell.store.revision, 1)
    cause = parse_cause(entry.cause)
    assert (cause.kind, cause.operation, cause.request_id, cause.principal_arn) == ("request", "UpdateService", call.request_id, root_arn(ACCOUNT))
    assert cause.who == root_arn(ACCOUNT)
    await cell.close()


def test_controllers_the_dispatcher_and_the_server_are_told_apart():
    controller = parse_cause("controller/service 123456789012/default/web")
    assert (controller.kind, controller.controller, controller.key) == ("controller", "service", "123456789012/default/web")
    assert (controller.who, controller.why) == ("controller/service", "123456789012/default/web")
    dispatcher = parse_cause("dispatcher: agent connects, session 1")
    assert (dispatcher.kind, dispatcher.who, dispatcher.why) == ("dispatcher", "dispatcher", "dispatcher: agent connects, session 1")
    assert parse_cause("server start").kind == "server"
    assert parse_cause("").kind == "server"
    assert parse_cause("UpdateService not-an-id arn:aws:iam::1:root").kind == "server"
