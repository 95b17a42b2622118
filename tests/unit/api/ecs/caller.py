"""Calls of handlers as the front door makes them, without HTTP: JSON in by the model, JSON out."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import msgspec

from homeport.api.call import Call, Context
from homeport.api.ecs.operations import OPERATIONS
from homeport.api.protocol import json, model
from homeport.store.table import Reader

ACCOUNT = "123456789012"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
REGION = "us-east-1"
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:"


class Ecs:
    """`await ecs("CreateCluster", clusterName="x")` gives the answer as a client reads it; errors are raised."""

    def __init__(self, context: Context, account: str = ACCOUNT, principal_arn: str = ROOT) -> None:
        self.context = context
        self.account = account
        self.principal_arn = principal_arn
        self._numbers = itertools.count()

    async def __call__(self, operation: str, **members: Any) -> Any:
        request = json.decode(model.load().operations[operation], msgspec.json.encode(members))
        return await self.handle(operation, request)

    async def handle(self, operation: str, request: Any) -> Any:
        """With a request that is an object already, for members that the public model does not have."""
        call = Call(
            context=self.context, operation=operation, request_id=str(next(self._numbers)), account=self.account, principal_arn=self.principal_arn
        )
        return msgspec.json.decode(json.encode(await OPERATIONS[operation](call, request)))

    async def put(self, *records: Any) -> None:
        """Write (table, record) pairs as another part of the control plane would."""

        def write(tx: Any) -> None:
            for table, record in records:
                tx.put(table, record)

        await self.context.store.update(write, cause="test")

    async def get(self, table: Any, key: str) -> Any:
        """A stored record."""

        def read(reader: Reader) -> Any:
            return reader.get(table, key)

        return await self.context.store.view(read)

    async def register_instance(self, **members: Any) -> Any:
        """A container instance of 2 cores and 4,000 MiB, as an agent registers it."""
        resources = [
            {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 4000},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375", "2376", "51678", "51679"]},
            {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
        ]
        return (await self("RegisterContainerInstance", **{"totalResources": resources, **members}))["containerInstance"]


def loose(**members: Any) -> Any:
    """A request by hand: members that are not named are None."""

    class Request(SimpleNamespace):
        def __getattr__(self, name: str) -> None:
            return None

    return Request(**members)
