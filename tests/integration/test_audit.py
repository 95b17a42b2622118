"""The audit log of real servers: boto3 looks into it, a kill -9 loses no acknowledged change, three servers are told as one. About half a minute."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from tests.acceptance.soak import Servers, wait_until_whole
from tests.integration.etcd_members import etcd_members
from tests.integration.test_secrets_at_rest import Program, homeport

REGION = "us-east-1"


def looked_up(cloudtrail: Any, **wanted: Any) -> list[dict[str, Any]]:
    """Every event, page by page, with its CloudTrailEvent read."""
    pages = cloudtrail.get_paginator("lookup_events").paginate(**wanted)
    return [{**event, "CloudTrailEvent": json.loads(event["CloudTrailEvent"])} for page in pages for event in page["Events"]]


def by(key: str, value: str) -> dict[str, Any]:
    return {"LookupAttributes": [{"AttributeKey": key, "AttributeValue": value}]}


@pytest.fixture
def program(tmp_path):
    made = Program(tmp_path / "data")
    yield made
    made.stop()


def test_after_a_kill_every_acknowledged_change_is_there_once_and_the_log_is_whole(program, tmp_path):
    program.start().ready()
    made: list[str] = []

    def work(thread: int) -> None:
        ecs = program.client("ecs")
        with contextlib.suppress(ClientError, BotoCoreError):
            for number in range(10_000):
                ecs.create_cluster(clusterName=f"c{thread}-{number}")
                made.append(f"c{thread}-{number}")

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(2.1)
    program.kill()
    for thread in threads:
        thread.join()
    assert len(made) > 20
    assert homeport("audit", "verify", "--data-dir", str(program.directory)).returncode == 0, "a killed server's log is whole, but for its end"
    program.start().ready()
    cloudtrail = program.client("cloudtrail")
    events = looked_up(cloudtrail, **by("EventName", "CreateCluster"))
    names = [_cluster(event) for event in events]
    assert not set(made) - set(names), "each has its record, or is told from the journal"
    assert len(names) == len(set(names))
    assert len({event["EventId"] for event in events}) == len(events)
    program.stop()
    told = homeport("audit", "verify", "--json", "--data-dir", str(program.directory))
    (log,) = json.loads(told.stdout)
    assert (told.returncode, log["whole"], log["unsignedRecords"]) == (0, True, 0), told.stdout
    assert log["journal"]["comparedCheckpoints"] > 0
    assert any("did not end in order" in notice for notice in log["notices"])
    tampered(program.directory, tmp_path / "copy")


def _cluster(event: dict[str, Any]) -> str:
    record = event["CloudTrailEvent"]
    told = record.get("additionalEventData", {}).get("toldFromJournal")
    return told["records"][0].rpartition("/")[2] if told else record["requestParameters"]["clusterName"]


def tampered(data_dir: Path, copy: Path) -> None:
    """A copy of the directory verifies; one byte of one record in it changed, and the journal cut behind the last checkpoint, do not."""
    shutil.copytree(data_dir, copy)
    assert homeport("audit", "verify", str(copy)).returncode == 0
    path = sorted((copy / "audit").glob("0*.jsonl"))[0]
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"clusterName":"c0-3"', b'"clusterName":"c0-9"', 1))
    told = homeport("audit", "verify", str(copy))
    assert told.returncode == 1
    assert "was edited or replaced" in told.stdout
    path.write_bytes(content)
    assert homeport("audit", "verify", str(copy)).returncode == 0
    with contextlib.closing(sqlite3.connect(copy / "homeport.sqlite", isolation_level=None)) as connection:
        last, digest = connection.execute("SELECT revision, hash FROM journal ORDER BY revision DESC LIMIT 1 OFFSET 3").fetchone()
        connection.execute("DELETE FROM journal WHERE revision > ?", (last,))
        connection.execute("UPDATE head SET revision = ?, hash = ?", (last, digest))
    assert homeport("journal", "verify", "--data-dir", str(copy)).returncode == 0, "the cut journal alone looks whole"
    told = homeport("audit", "verify", str(copy))
    assert told.returncode == 1
    assert f"journal entries {last + 1} to" in told.stdout


def test_three_servers_are_told_as_one_and_one_that_is_gone_by_its_changes(tmp_path):
    with etcd_members(tmp_path / "etcd", 3) as members:
        servers = Servers(tmp_path, "etcd://" + ",".join(endpoint.partition("//")[2] for endpoint in members.endpoints))
        try:
            for number in range(3):
                servers.start(number)
            wait_until_whole(servers)
            clients = [{name: client(servers, number, name) for name in ("ecs", "cloudtrail")} for number in range(3)]
            ids = {}
            for number in range(3):
                answer = clients[number]["ecs"].create_cluster(clusterName=f"c{number}")
                ids[f"c{number}"] = answer["ResponseMetadata"]["RequestId"]
                clients[number]["ecs"].describe_clusters(clusters=[f"c{number}"])
            for number in range(3):
                events = looked_up(clients[number]["cloudtrail"], **by("EventSource", "ecs.amazonaws.com"))
                assert len(events) == 6, "each call once, wherever it was carried out"
                found = {event["CloudTrailEvent"]["requestParameters"].get("clusterName"): event["CloudTrailEvent"]["requestID"] for event in events}
                assert {name: found[name] for name in ids} == ids
            keys = clients[0]["cloudtrail"].list_public_keys()["PublicKeyList"]
            assert len({key["Fingerprint"] for key in keys}) == 3
            wait_for(lambda: len(list(tmp_path.glob("*/audit/checkpoints.jsonl"))) == 3)
            leader = servers.leader()
            assert leader is not None
            servers.kill(leader)
            there = (leader + 1) % 3
            wait_for(lambda: names(clients[there]["cloudtrail"], "CreateCluster") == ["c0", "c1", "c2"])
        finally:
            servers.stop()
    told = homeport("audit", "verify", "--json", "--data-dir", str(tmp_path))
    logs = json.loads(told.stdout)
    assert told.returncode == 0, told.stdout
    assert {log["server"] for log in logs} == {"soak-0", "soak-1", "soak-2"}
    assert all(log["journal"]["comparedCheckpoints"] for log in logs), "each against the journal of its own server"


def client(servers: Servers, number: int, service: str) -> Any:
    keys = servers.credentials()
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{servers.ports[number]}",
        region_name=REGION,
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
        config=Config(retries={"total_max_attempts": 4}),
    )


def names(cloudtrail: Any, operation: str) -> list[str]:
    with contextlib.suppress(ClientError, BotoCoreError):
        return sorted(_cluster(event) for event in looked_up(cloudtrail, **by("EventName", operation)))
    return []


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)
