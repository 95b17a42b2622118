"""The ready rules of docs/howto/rules.json: each refuses what it is about, and nothing that is well made."""

from __future__ import annotations

import json as jsonlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS as ECS
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.protocol import json, model
from homeport.cli.rule import rules_in
from homeport.errors import RuleViolatedError
from homeport.model.arn import root_arn
from homeport.store.tables import TASK_DEFINITIONS
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, container_instance

HOWTO = Path(__file__).parents[3] / "docs/howto"
RULES = {item["name"]: item for item in rules_in(HOWTO / "rules.json")}
ROLE = f"arn:aws:iam::{ACCOUNT}:role/payments"
GOOD = {"name": "app", "image": "registry.example.com/app:1", "memory": 64, "readonlyRootFilesystem": True}
TEAM = [{"key": "team", "value": "ann"}]


def definition(container: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return {"family": "bad", "containerDefinitions": [{**GOOD, **(container or {})}], **members}


def service(**members: Any) -> tuple[str, dict[str, Any]]:
    return "CreateService", {"cluster": "production", "serviceName": "payments", "taskDefinition": "good", "desiredCount": 0, "tags": TEAM, **members}


def run(**members: Any) -> tuple[str, dict[str, Any]]:
    return "RunTask", {"cluster": "production", "taskDefinition": "good", **members}


WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("no-privileged", *run(taskDefinition="privileged")),
    ("no-privileged", *service(taskDefinition="privileged")),
    ("our-registry", "RegisterTaskDefinition", definition({"image": "docker.example.com/app:1"})),
    ("our-registry", "RegisterDaemonTaskDefinition", definition({"image": "registry.example.com.evil/app:1"})),
    ("no-latest", "RegisterTaskDefinition", definition({"image": "registry.example.com/app"})),
    ("no-latest", "RegisterTaskDefinition", definition({"image": "registry.example.com/app:latest"})),
    ("payments-role", *run(taskDefinition="payments")),
    ("payments-role", *service(serviceName="other", taskDefinition="payments")),
    ("read-only-root", "RegisterTaskDefinition", definition({"readonlyRootFilesystem": False})),
    ("read-only-root", "RegisterTaskDefinition", definition({"readonlyRootFilesystem": None})),
    ("no-host-namespaces", "RegisterTaskDefinition", definition(networkMode="host")),
    ("no-host-namespaces", "RegisterTaskDefinition", definition(pidMode="host")),
    ("no-host-paths", "RegisterTaskDefinition", definition(volumes=[{"name": "v", "host": {"sourcePath": "/etc"}}])),
    ("no-host-namespaces", *run(taskDefinition="host")),
    ("no-host-paths", *service(taskDefinition="host")),
    ("memory-limits", "RegisterTaskDefinition", definition({"memory": None, "memoryReservation": 64})),
    ("memory-limits", "RegisterTaskDefinition", definition({"memory": 9000})),
    ("no-secrets-in-environment", "RegisterTaskDefinition", definition({"environment": [{"name": "DB_PASSWORD", "value": "x"}]})),
    (
        "no-secrets-in-environment",
        *run(overrides={"containerOverrides": [{"name": "app", "environment": [{"name": "MY_TOKEN", "value": "x"}]}]}),
    ),
    ("services-have-an-owner", *service(tags=[{"key": "Team", "value": "ann"}])),
]


async def ecs(cell: MemoryCell, operation: str, request: dict[str, Any]) -> Any:
    return await cell.call(operation, ECS[operation], request)


async def put(cell: MemoryCell, rule: dict[str, Any]) -> None:
    decoded = json.decode(model.load("homeport").operations["PutRule"], msgspec.json.encode(rule))
    call = Call(context=cell.context, operation="PutRule", request_id="r", account=ACCOUNT, principal_arn=root_arn(ACCOUNT))
    await OPERATIONS["PutRule"](call, decoded)


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    await ecs(cell, "CreateCluster", {"clusterName": "production"})
    await cell.put(container_instance(cluster="production"))
    await ecs(cell, "RegisterTaskDefinition", {**definition(), "family": "good"})
    await ecs(cell, "RegisterTaskDefinition", {**definition({"privileged": True}), "family": "privileged"})
    await ecs(cell, "RegisterTaskDefinition", {**definition(taskRoleArn=ROLE), "family": "payments"})
    host = {"networkMode": "host", "volumes": [{"name": "v", "host": {"sourcePath": "/etc"}}]}
    await ecs(cell, "RegisterTaskDefinition", {**definition(**host), "family": "host"})
    for known in await cell.all(TASK_DEFINITIONS):
        await cell.put(msgspec.structs.replace(known, unsupported=(), requires_attributes=()))
    yield cell
    await cell.close()


@pytest.mark.parametrize(("name", "operation", "request_"), WRONG)
async def test_a_ready_rule_refuses_what_it_is_about(cell, name, operation, request_):
    await put(cell, {**RULES[name], "mode": "ENFORCE"})
    with pytest.raises(RuleViolatedError, match=f"rule {name} forbids") as refusal:
        await ecs(cell, operation, request_)
    assert RULES[name]["message"].rstrip(".") in str(refusal.value)
    assert "cannot be evaluated" not in str(refusal.value)


async def test_all_of_them_together_allow_what_is_well_made(cell):
    for rule in RULES.values():
        await put(cell, {**rule, "mode": "ENFORCE"})
    await ecs(cell, "RegisterTaskDefinition", definition(networkMode="bridge", volumes=[{"name": "v"}]))
    await ecs(cell, "RegisterTaskDefinition", definition({"image": "registry.example.com/app@sha256:" + "0" * 64}))
    await ecs(cell, "RegisterDaemonTaskDefinition", definition())
    overrides = {"containerOverrides": [{"name": "app", "environment": [{"name": "PORT", "value": "80"}]}]}
    assert (await ecs(cell, *run(overrides=overrides)))["tasks"]
    await ecs(cell, *service(taskDefinition="payments"))


def test_each_is_tried_here_and_stands_in_the_page():
    assert {name for name, *_ in WRONG} == set(RULES)
    page = (HOWTO / "rules.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \| ", page, re.MULTILINE)) >= set(RULES)
    assert {rule["mode"] for rule in RULES.values()} == {"REPORT"}


def test_the_rule_that_the_page_shows_is_the_one_of_the_file():
    shown = re.search(r"^    \{\n.*?^    \}$", (HOWTO / "rules.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert jsonlib.loads(shown[0]) == {**RULES["no-privileged"], "mode": "ENFORCE"}
