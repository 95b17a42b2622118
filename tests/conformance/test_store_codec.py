"""Stored forms: every version that was ever written stays readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.errors import StoredFormError
from homeport.model.account import Account
from homeport.model.data_key import DataKey, Sealing
from homeport.model.ecs.account_setting import AccountSetting
from homeport.model.ecs.capacity_provider import CapacityProvider, ManagedScaling
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import AgentSession, Attribute, ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment, DaemonRollback
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.deployment import AlarmMonitor, CircuitBreaker, Deployment
from homeport.model.ecs.express_gateway_service import ExpressGatewayService
from homeport.model.ecs.gateway import Gateway, GatewayAssociation
from homeport.model.ecs.service import DaemonShare, PlacementConstraint, PlacementStrategy, Service, ServiceEvent
from homeport.model.ecs.service_revision import RevisionContainer, ServiceRevision
from homeport.model.ecs.task import Container, HostPortUse, NetworkBinding, Task
from homeport.model.ecs.task_definition import HostPort, TaskDefinition, TaskDefinitionFamily
from homeport.model.ecs.task_set import TaskSet
from homeport.model.homeport.rule import Rule
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.group import Group
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.iam.join_token import JoinToken
from homeport.model.iam.last_use import LastUse
from homeport.model.iam.oidc_provider import OidcProvider
from homeport.model.iam.policy import InlinePolicy, ManagedPolicy, PolicyVersion
from homeport.model.iam.role import InstanceProfile, Role
from homeport.model.iam.session_key import SessionKey
from homeport.model.iam.user import User
from homeport.model.installation import Effect, IdempotencyToken, Installation
from homeport.model.record import Record
from homeport.store.codec import ENCODER, Codec
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.table import Table
from homeport.store.tables import TABLES
from homeport.virtual_clock import VirtualClock

GOLDEN = Path(__file__).with_name("golden")
ACCOUNT, NOW = "123456789012", 1_764_000_000.25

# One record of each table with as many fields set as there were when version 1 was written. A field that comes later must have a default, so
# these expressions, and the golden files, stay as they are. A new version of a table gets a golden file of its own (see docs/design/store.md).


def task_definition(family: str, revision: int, *, cpu: int, memory_mib: int) -> TaskDefinition:
    return TaskDefinition(
        account=ACCOUNT,
        family=family,
        revision=revision,
        status="ACTIVE",
        registered_at=NOW,
        registered_by=f"arn:aws:iam::{ACCOUNT}:root",
        document=b'{"family":"%s"}' % family.encode(),
        network_mode="bridge",
        cpu=cpu,
        memory_mib=memory_mib,
    )


SAMPLES: dict[str, Record] = {
    "installation": Installation(id="0123456789abcdef", account=ACCOUNT, region="us-east-1", created_at=NOW),
    "access_keys": AccessKey(
        id="AKIAEXAMPLEEXAMPLE00",
        secret="not/a+secret",
        account=ACCOUNT,
        principal_arn=f"arn:aws:iam::{ACCOUNT}:root",
        created_at=NOW,
        status="Active",
    ),
    "accounts": Account(id=ACCOUNT, name="red", created_at=NOW, status="SUSPENDED", closed_at=NOW + 1, quotas=(("clusters_max", 3),)),
    "data_keys": DataKey(id="abcd1234", root_key_id="0123456789abcdef", wrapped="sealed:1:0123456789abcdef:AAAA", created_at=NOW),
    "sealings": Sealing(scrubbing=True, open_through=7),
    "oidc_providers": OidcProvider(
        account=ACCOUNT,
        issuer="https://issuer.example/path",
        created_at=NOW,
        client_ids=("sts.amazonaws.com",),
        thumbprints=("0" * 40,),
        tags=(("k", "v"),),
    ),
    "last_uses": LastUse(id="AKIAEXAMPLEEXAMPLE00", used_at=NOW, service="ecs", region="eu-central-1"),
    "session_keys": SessionKey(id="abcd1234", secret="not-a-secret", created_at=NOW),
    "join_tokens": JoinToken(
        id="abcdefghij12",
        account=ACCOUNT,
        secret_sha256="00" * 32,
        cluster="default",
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/ecsInstanceRole",
        role_id="AROAEXAMPLE",
        instance=f"{ACCOUNT}/default/0123456789abcdef0123456789abcdef",
        uses=3,
        uses_left=2,
        created_at=NOW,
        created_by=f"arn:aws:iam::{ACCOUNT}:root",
        expires_at=NOW + 3600,
    ),
    "instance_identities": InstanceIdentity(
        id="hi-0123456789abcdef0",
        account=ACCOUNT,
        cluster="default",
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/ecsInstanceRole",
        role_id="AROAEXAMPLE",
        public_key=bytes(32),
        token_id="abcdefghij12",
        joined_at=NOW,
        proved_at=NOW + 1,
        instance=f"{ACCOUNT}/default/0123456789abcdef0123456789abcdef",
    ),
    "users": User(
        account=ACCOUNT,
        name="Ann",
        path="/team/",
        id="AIDAEXAMPLE",
        created_at=NOW,
        tags=(("k", "v"),),
        boundary=f"arn:aws:iam::{ACCOUNT}:policy/bound",
        groups=("ops",),
        attached=(f"arn:aws:iam::{ACCOUNT}:policy/read",),
        inline=(InlinePolicy(name="own", document="{}"),),
    ),
    "groups": Group(
        account=ACCOUNT,
        name="ops",
        path="/team/",
        id="AGPAEXAMPLE",
        created_at=NOW,
        attached=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        inline=(InlinePolicy(name="own", document="{}"),),
    ),
    "roles": Role(
        account=ACCOUNT,
        name="infra",
        path="/service/",
        id="AROAEXAMPLE",
        created_at=NOW,
        trust='{"Statement":[]}',
        description="d",
        session_seconds_max=7200,
        tags=(("k", "v"),),
        boundary=f"arn:aws:iam::{ACCOUNT}:policy/bound",
        attached=(f"arn:aws:iam::{ACCOUNT}:policy/read",),
        inline=(InlinePolicy(name="own", document="{}"),),
        service="ecs.amazonaws.com",
    ),
    "instance_profiles": InstanceProfile(
        account=ACCOUNT, name="nodes", path="/team/", id="AIPAEXAMPLE", created_at=NOW, role="infra", tags=(("k", "v"),)
    ),
    "managed_policies": ManagedPolicy(
        account=ACCOUNT,
        name="read",
        path="/team/",
        id="ANPAEXAMPLE",
        created_at=NOW,
        updated_at=NOW + 1,
        description="d",
        tags=(("k", "v"),),
        versions=(PolicyVersion(number=2, document="{}", created_at=NOW),),
        default_version=2,
        next_version=3,
    ),
    "effects": Effect(key="AKIAEXAMPLEEXAMPLE00/3030/0123456789abcdef/1", answer=b'{"cluster":{}}', record="Cluster", made_at=NOW),
    "idempotency_tokens": IdempotencyToken(
        account=ACCOUNT,
        operation="RunTask",
        token="token-1",
        scope=f"{ACCOUNT}/default",
        fingerprint="9f86d081",
        resources=("a", "b"),
        created_at=NOW,
        expires_at=NOW + 86_400,
        failures=b'[{"reason":"RESOURCE:CPU"}]',
    ),
    "clusters": Cluster(
        account=ACCOUNT,
        name="default",
        status="ACTIVE",
        created_at=NOW,
        settings=(("containerInsights", "disabled"),),
        configuration=b'{"executeCommandConfiguration":{}}',
        service_connect_defaults=b'{"namespace":"shop"}',
        capacity_providers=("FARGATE",),
        default_capacity_provider_strategy=b"[]",
        tags=(("team", "checkout"),),
    ),
    "capacity_providers": CapacityProvider(
        account=ACCOUNT,
        name="spot",
        type="EC2_AUTOSCALING",
        status="ACTIVE",
        created_at=NOW,
        cluster="default",
        auto_scaling_group="asg",
        managed_scaling=ManagedScaling(enabled=True, target_capacity=90, step_min=2, step_max=10, warmup_seconds=60),
        termination_protection=True,
        managed_draining=False,
        managed_instances=b"{}",
        update_status="UPDATE_COMPLETE",
        deleted_at=NOW + 5,
        tags=(("k", "v"),),
    ),
    "express_gateway_services": ExpressGatewayService(
        account=ACCOUNT,
        cluster="default",
        name="shop",
        created_at=NOW,
        updated_at=NOW + 1,
        infrastructure_role=f"arn:aws:iam::{ACCOUNT}:role/infra",
        configuration=b'{"cpu":"256"}',
        configured_at=NOW + 1,
        tags=(("k", "v"),),
    ),
    "gateways": Gateway(
        account=ACCOUNT,
        name="shop",
        status="UPDATE_COMPLETE",
        created_at=NOW,
        updated_at=NOW + 1,
        infrastructure_role=f"arn:aws:iam::{ACCOUNT}:role/infra",
        deletion_protection=True,
        propagate_tags="GATEWAY",
        scheme="internal",
        configuration=b'{"scheme":"internal"}',
        tags=(("k", "v"),),
    ),
    "gateway_associations": GatewayAssociation(account=ACCOUNT, gateway="shop", cluster="default", status="ACTIVE", created_at=NOW),
    "task_definition_families": TaskDefinitionFamily(account=ACCOUNT, family="web", last_revision=300),
    "task_definitions": msgspec.structs.replace(
        task_definition("web", 300, cpu=256, memory_mib=512),
        host_ports=(HostPort(port=8080, protocol="tcp"),),
        requires_attributes=("com.amazonaws.ecs.capability.docker-remote-api.1.18",),
        placement_constraints=("attribute:ecs.os-type == linux",),
        unsupported=("networkMode=awsvpc",),
        deregistered_at=NOW + 1,
        delete_requested_at=NOW + 2,
        tags=(("a", ""),),
        gpus=1,
    ),
    "container_instances": ContainerInstance(
        account=ACCOUNT,
        cluster="default",
        id="0123456789abcdef0123456789abcdef",
        ec2_instance_id="i-0123456789abcdef0",
        status="ACTIVE",
        registered_at=NOW,
        cpu=4096,
        memory_mib=8192,
        reserved_tcp_ports=(22, 2375),
        reserved_udp_ports=(53,),
        attributes=(Attribute(name="ecs.os-type", value="linux"), Attribute(name="stack", value="prod", custom=True)),
        agent_version="1.0.0",
        agent_hash="abcdef0",
        docker_version="DockerVersion: 24.0.7",
        agent_connected=True,
        session=AgentSession(id="s1", server="server-a", since=NOW),
        disconnected_at=NOW - 5,
        status_reason="because",
        agent_update_status="PENDING",
        tags=(("a", "b"),),
        version=9,
        client_token="token",
        gpu_ids=("GPU-0",),
        health="OK",
        health_updated_at=NOW,
        health_changed_at=NOW,
        platform_devices=b"[]",
    ),
    "tasks": Task(
        account=ACCOUNT,
        cluster="default",
        id="fedcba9876543210fedcba9876543210",
        family="web",
        revision=300,
        desired_status="STOPPED",
        last_status="DEPROVISIONING",
        created_at=NOW,
        group="service:web",
        launch_type="EC2",
        container_instance_id="0123456789abcdef0123456789abcdef",
        cpu=256,
        memory_mib=512,
        host_ports=(HostPortUse(port=8080, protocol="tcp"),),
        containers=(
            Container(
                name="app",
                id="11111111-2222-4333-8444-555555555555",
                image="web:1",
                status="STOPPED",
                runtime_id="c0ffee",
                exit_code=-3,
                reason="OutOfMemoryError",
                image_digest="sha256:00",
                network_bindings=(
                    NetworkBinding(
                        bind_ip="0.0.0.0",
                        container_port=80,
                        host_port=32768,
                        protocol="tcp",
                        container_port_range="80-81",
                        host_port_range="32768-32769",
                    ),
                ),
                health_status="HEALTHY",
                essential=False,
                has_health_check=True,
                cpu="256",
                memory="512",
                memory_reservation="128",
            ),
        ),
        started_by="ecs-svc/4071829384756102938",
        service="web",
        deployment_id="4071829384756102938",
        overrides=b"{}",
        observed_status="STOPPED",
        observed_reason="observed",
        pull_started_at=NOW + 1,
        pull_stopped_at=NOW + 2,
        started_at=NOW + 3,
        stopping_at=NOW + 4,
        execution_stopped_at=NOW + 5,
        stopped_at=NOW + 6,
        connectivity="CONNECTED",
        connectivity_at=NOW + 0.5,
        stop_code="EssentialContainerExited",
        stopped_reason="Essential container in task exited",
        health_status="UNHEALTHY",
        enable_execute_command=True,
        tags=(("k", "v"),),
        version=5,
        cpu_shown="256",
        memory_shown="512",
        protected_until=NOW + 60,
        healthy_since=NOW + 4,
    ),
    "services": Service(
        account=ACCOUNT,
        cluster="default",
        name="web",
        status="ACTIVE",
        created_at=NOW,
        created_by=f"arn:aws:iam::{ACCOUNT}:root",
        desired_count=3,
        family="web",
        revision=300,
        launch_type="EC2",
        scheduling_strategy="REPLICA",
        maximum_percent=150,
        minimum_healthy_percent=50,
        deployment_configuration=b'{"maximumPercent":150}',
        placement_constraints=(PlacementConstraint(type="memberOf", expression="attribute:stack == prod"),),
        placement_strategy=(PlacementStrategy(type="spread", field="instanceId"),),
        health_check_grace_period_seconds=30,
        enable_ecs_managed_tags=True,
        propagate_tags="SERVICE",
        enable_execute_command=True,
        availability_zone_rebalancing="ENABLED",
        deployment_controller="ECS",
        tags=(("k", "v"),),
        document=b"{}",
        events_written=12,
        placement_failure="no instance",
        steady=True,
        drained_at=NOW + 100,
    ),
    "deployments": Deployment(
        account=ACCOUNT,
        cluster="default",
        service="web",
        id="4071829384756102938",
        status="PRIMARY",
        family="web",
        revision=300,
        created_at=NOW,
        updated_at=NOW + 1,
        launch_type="EC2",
        rollout_state="COMPLETED",
        rollout_state_reason="ECS deployment ecs-svc/4071829384756102938 completed.",
        failed_tasks=1,
        failures_to_start=2,
        throttled_until=NOW + 15,
        impaired=True,
    ),
    "service_revisions": ServiceRevision(
        account=ACCOUNT,
        cluster="default",
        service="web",
        id="4071829384756102938",
        created_at=NOW,
        family="web",
        revision=300,
        launch_type="EC2",
        containers=(RevisionContainer(name="app", image="app:1", digest="sha256:00", consistent=True, note="because"),),
        document=b'{"loadBalancers":[]}',
        pinned_at=NOW + 1,
    ),
    "rules": Rule(
        account=ACCOUNT,
        name="no-privileged",
        mode="ENFORCE",
        message="No privileged containers.",
        kinds=("task", "service"),
        clusters=("prod*",),
        families=("web",),
        services=("web",),
        require="service == 'web'",
        violations="taskDefinition.containerDefinitions[?privileged].name",
        version=2,
        created_at=NOW,
        updated_at=NOW + 1,
        updated_by=f"arn:aws:iam::{ACCOUNT}:user/ann",
    ),
    "account_settings": AccountSetting(
        account=ACCOUNT, name="containerInsights", principal_arn=f"arn:aws:iam::{ACCOUNT}:user/ann", value="enhanced", set_at=NOW
    ),
    "daemon_task_definition_families": TaskDefinitionFamily(account=ACCOUNT, family="logs", last_revision=3),
    "daemon_task_definitions": DaemonTaskDefinition(
        account=ACCOUNT,
        family="logs",
        revision=3,
        status="DELETED",
        registered_at=NOW,
        registered_by=f"arn:aws:iam::{ACCOUNT}:root",
        shown=b'{"family":"logs"}',
        definition=task_definition("logs", 3, cpu=128, memory_mib=64),
        delete_requested_at=NOW + 1,
        deleted_at=NOW + 2,
        tags=(("team", "checkout"),),
    ),
    "daemons": Daemon(
        account=ACCOUNT,
        cluster="default",
        name="logs",
        status="ACTIVE",
        created_at=NOW,
        updated_at=NOW + 1,
        created_by=f"arn:aws:iam::{ACCOUNT}:root",
        revision_id="4071829384756102938",
        deployment_id="5071829384756102938",
        capacity_providers=("edge",),
        definitions=(f"{ACCOUNT}/logs:3",),
        critical=False,
        completed_revision_id="3071829384756102938",
        share=DaemonShare(cpu=128, memory_mib=64),
        tags=(("team", "checkout"),),
    ),
    "daemon_deployments": DaemonDeployment(
        account=ACCOUNT,
        cluster="default",
        daemon="logs",
        id="5071829384756102938",
        status="ROLLBACK_IN_PROGRESS",
        created_at=NOW,
        updated_at=NOW + 1,
        revision_id="4071829384756102938",
        source_revision_ids=("3071829384756102938",),
        status_reason="because",
        started_at=NOW,
        stopped_at=NOW + 1,
        finished_at=NOW + 2,
        configuration=b'{"drainPercent":10.0,"bakeTimeInMinutes":1}',
        circuit_breaker=CircuitBreaker(status="TRIGGERED", failure_count=3, threshold=3, ran=True),
        alarms=AlarmMonitor(status="DISABLED"),
        rollback=DaemonRollback(reason="because", started_at=NOW + 1, revision_id="3071829384756102938", capacity_providers=("edge",)),
        steps=2,
        bake_started_at=NOW + 1,
        failed_tasks=1,
        failures_to_start=2,
        throttled_until=NOW + 9,
        impaired=True,
        ends_counted_at=NOW + 1,
        failure_round_at=NOW + 1,
        crashes=3,
    ),
    "daemon_revisions": DaemonRevision(
        account=ACCOUNT,
        cluster="default",
        daemon="logs",
        id="4071829384756102938",
        created_at=NOW,
        family="logs",
        revision=3,
        capacity_providers=("edge",),
        containers=(RevisionContainer(name="agent", image="agent:1", digest="sha256:00", consistent=True, note="because"),),
        propagate_tags="DAEMON",
        enable_ecs_managed_tags=True,
        enable_execute_command=True,
        critical=False,
        pinned_at=NOW + 1,
    ),
    "service_events": ServiceEvent(
        account=ACCOUNT,
        cluster="default",
        service="web",
        number=7,
        id="11111111-2222-4333-8444-666666666666",
        created_at=NOW,
        message="(service web) has reached a steady state.",
        cause="steady",
    ),
    "task_sets": TaskSet(
        account=ACCOUNT,
        cluster="default",
        service="web",
        id="4071829384756102938",
        status="PRIMARY",
        family="web",
        revision=300,
        launch_type="EC2",
        created_at=NOW,
        updated_at=NOW + 1,
        scale=12.5,
        external_id="build 7",
        started_by="CODE_DEPLOY",
        document=b"{}",
        stability_status="STEADY_STATE",
        stability_status_at=NOW + 2,
        tags=(("a", "b"),),
        failed_tasks=1,
        failures_to_start=2,
        throttled_until=NOW + 15,
        impaired=True,
        ends_counted_at=NOW + 3,
        failure_round_at=NOW + 4,
        crashes=5,
    ),
}

BY_NAME = {table.name: table for table in TABLES}


def golden(table: str, version: int) -> bytes:
    return bytes.fromhex(GOLDEN.joinpath(f"store_{table}.v{version}.hex").read_text())


def test_every_version_of_every_table_has_a_golden_file():
    wanted = {f"store_{table.name}.v{version}.hex" for table in TABLES for version in range(1, table.version + 1)}
    assert {path.name for path in GOLDEN.glob("store_*.hex")} == wanted
    assert set(SAMPLES) == set(BY_NAME)


@pytest.mark.parametrize(("table", "version"), [(table.name, version) for table in TABLES for version in range(1, table.version + 1)])
def test_golden_files_are_read_as_today_s_records(table: str, version: int):
    assert Codec(BY_NAME[table]).decode(version, golden(table, version)) == SAMPLES[table]


@pytest.mark.parametrize("table", BY_NAME)
def test_a_field_that_was_added_is_added_at_the_end(table: str):
    """What is written today begins, field by field, with what the table's current version had when its golden file was made."""
    written = msgspec.msgpack.decode(golden(table, BY_NAME[table].version))
    today = msgspec.msgpack.decode(ENCODER.encode(SAMPLES[table]))
    assert len(written) <= len(today)
    for before, now in zip(written, today, strict=False):
        assert now == before or isinstance(now, list)


class Door(Record):
    """Today's form: version 3."""

    name: str
    width_millimetres: int
    locked: bool = False
    color: str = "white"


def inches_to_millimetres(fields: list[Any]) -> list[Any]:
    name, inches, locked = fields
    return [name, round(inches * 25.4), locked]


def words_to_flags(fields: list[Any]) -> list[Any]:
    name, width, locked = fields
    return [name, width, locked == "locked"]


DOORS = Table("doors", Door, lambda r: r.name, upgrades=(inches_to_millimetres, words_to_flags))


def test_upgrades_are_applied_step_by_step():
    codec = Codec(DOORS)
    assert DOORS.version == 3
    expected = Door(name="front", width_millimetres=914, locked=True)
    assert codec.decode(1, ENCODER.encode(["front", 36, "locked"])) == expected
    assert codec.decode(2, ENCODER.encode(["front", 914, "locked"])) == expected
    assert codec.decode(3, ENCODER.encode(["front", 914, True])) == expected
    assert codec.decode(3, ENCODER.encode(expected)) == expected


@pytest.mark.parametrize(
    ("version", "stored", "words"),
    [
        (4, ["front", 914, True], "use a newer program"),
        (0, ["front", 914, True], "was not finished; copy or restore it again"),
        (-1, ["front", 914, True], "use a newer program"),
        (3, ["front", "wide", True], "cannot be read"),
        (3, ["front"], "cannot be read"),
        (2, 7, "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_which_table(version: int, stored: Any, words: str):
    with pytest.raises(StoredFormError, match=f"table doors: .*{words}"):
        Codec(DOORS).decode(version, ENCODER.encode(stored))


class OldDoor(Record):
    """Version 1 of Door."""

    name: str
    width_inches: int
    lock: str = ""


async def test_a_store_of_an_older_program_is_read_and_its_journal_too():
    backend = MemoryBackend()
    old = Table("doors", OldDoor, lambda r: r.name)
    store = await Store.open(backend, tables=(old,), clock=VirtualClock())
    for lock in ("", "locked", "open", "locked"):
        await store.update(lambda tx, lock=lock: tx.put(old, OldDoor(name="front", width_inches=36, lock=lock)), cause="old program")
    await store.update(lambda tx: tx.put(old, OldDoor(name="back", width_inches=30)), cause="old program")
    await store.close()

    store = await Store.open(backend, tables=(DOORS,), clock=VirtualClock())
    front = Door(name="front", width_millimetres=914, locked=True)
    assert await store.view(lambda r: list(r.scan(DOORS))) == [Door(name="back", width_millimetres=762), front]
    for color in ("red", "blue"):
        await store.update(lambda tx, color=color: tx.put(DOORS, msgspec.structs.replace(front, color=color)), cause="new program")
    story = await store.journal.story(DOORS, "front")
    assert [(change.cause, change.record.locked, change.record.color) for change in story if isinstance(change.record, Door)] == [
        ("old program", False, "white"),
        ("old program", True, "white"),
        ("old program", False, "white"),
        ("old program", True, "white"),
        ("new program", True, "red"),
        ("new program", True, "blue"),
    ]
    assert {change.record.width_millimetres for change in story if isinstance(change.record, Door)} == {914}
    assert (await store.journal.verify()).problem == ""
    await store.close()
    store = await Store.open(backend, tables=(DOORS,), clock=VirtualClock())
    assert await store.view(lambda r: r.get(DOORS, "front")) == msgspec.structs.replace(front, color="blue")
    await store.close()
