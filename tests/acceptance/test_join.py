"""Machines that join: `up` on its own machine, `agent --join` on another one, as an operator does it. Some 20 s."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from acceptance.harness import IMAGE, Installation, until
from acceptance.test_several_servers import leader, servers, three

__all__ = ["three"]


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def hosts(installation: Installation) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(installation.homeport("instance", "list", "--json").stdout)
    return found


def token(installation: Installation, *more: str) -> str:
    return str(json.loads(installation.homeport("token", "create", "--json", *more).stdout)["token"])


def run_where(installation: Installation, zone: str) -> str:
    container = {"name": "main", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "stopTimeout": 1}
    installation.ecs.register_task_definition(family="joined", containerDefinitions=[container])
    constraint = {"type": "memberOf", "expression": f"attribute:ecs.availability-zone == {zone}"}
    task = installation.ecs.run_task(taskDefinition="joined", placementConstraints=[constraint])["tasks"][0]["taskArn"]
    installation.ecs.get_waiter("tasks_running").wait(tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return str(task)


def test_up_gives_its_agent_no_root_key_and_one_that_had_it_is_started_anew(new_installation):
    installation = new_installation()
    # As a version before tokens left it: an agent with the root's key, no host, an instance with a task.
    installation.homeport("server", "--detach", "--port", str(installation.port))
    keys = {"AWS_ACCESS_KEY_ID": installation.access_key_id, "AWS_SECRET_ACCESS_KEY": installation.secret_access_key}
    installation.environment = {**keys, "AWS_DEFAULT_REGION": installation.region}
    installation.homeport("agent", "--detach", "--endpoint", installation.endpoint)
    installation.environment = {}
    before = installation.pid("agent")
    assert environment_of(before)["AWS_SECRET_ACCESS_KEY"] == installation.secret_access_key
    task = run_where(installation, "us-east-1a")
    container = installation.containers(running=True)
    (arn,) = installation.ecs.list_container_instances()["containerInstanceArns"]
    installation.environment = keys  # what `eval "$(homeport env)"` leaves in a shell
    installation.up()
    installation.environment = {}
    agent = installation.pid("agent")
    assert agent != before
    secret = installation.secret_access_key
    assert secret not in str(environment_of(agent))
    assert installation.access_key_id not in str(environment_of(agent))
    for file in (installation.data_dir / "agent").iterdir():
        assert secret.encode() not in file.read_bytes(), file
    opened = subprocess.run(["ls", "-l", f"/proc/{agent}/fd"], check=True, capture_output=True, text=True).stdout
    assert "credentials.json" not in opened
    (host,) = hosts(installation)
    assert host["containerInstanceArn"] == arn, "the machine goes on as the instance that it was"
    assert installation.ecs.describe_tasks(tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING"
    assert installation.containers(running=True) == container
    installation.up()
    assert installation.pid("agent") == agent, "who has joined does not join again"
    installation.stop(task)


def test_a_machine_joins_once_restarts_without_a_token_and_is_revoked(installation, new_installation):
    text = token(installation, "--expires", "5m")
    away, thief = new_installation(), new_installation()
    try:
        away.homeport("agent", "--detach", "--join", text, "--server", installation.endpoint, "--zone", "joined-1")
        refused = thief.homeport("agent", "--detach", "--join", text, "--server", installation.endpoint, check=False)
        assert refused.returncode == 1
        assert "used up" in refused.stderr
        assert "Join refused" in (installation.data_dir / "log" / "server.log").read_text()
        task = run_where(installation, "joined-1")
        away.homeport("down")
        away.homeport("agent", "--detach")
        assert installation.ecs.describe_tasks(tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING"
        arn = installation.ecs.describe_tasks(tasks=[task])["tasks"][0]["containerInstanceArn"]
        assert sum(host.get("containerInstanceArn") == arn for host in hosts(installation)) == 1

        def connected() -> bool:
            return bool(installation.ecs.describe_container_instances(containerInstances=[arn])["containerInstances"][0]["agentConnected"])

        assert connected()
        installation.homeport("instance", "revoke", arn.rpartition("/")[2])
        assert until(lambda: not connected(), seconds=10)
        runtime_id = installation.ecs.describe_tasks(tasks=[task])["tasks"][0]["containers"][0]["runtimeId"]
        assert runtime_id in installation.containers(running=True)
        away.homeport("down")
        again = token(installation, "--instance", arn)
        away.homeport("agent", "--detach", "--join", again, "--server", installation.endpoint, "--zone", "joined-1")
        assert connected()
        installation.stop(task)
    finally:
        away.homeport("down", check=False)


@pytest.mark.parametrize("arguments", [("token", "create", "--uses", "0"), ("instance", "revoke", "nobody"), ("token", "delete", "nobody")])
def test_what_makes_no_sense_is_refused_with_a_reason(installation, arguments):
    refused = installation.homeport(*arguments, check=False)
    assert refused.returncode in (1, 2)
    assert refused.stderr
    assert "Traceback" not in refused.stderr


def test_with_three_servers_a_token_is_good_once_at_all_of_them_and_a_host_is_revoked_wherever_it_is_connected(three, new_installation):
    followers = [member for member in servers(three)["members"] if member["name"] != leader(three)]
    text = token(three)
    away, thief = new_installation(), new_installation()
    try:
        away.homeport("agent", "--detach", "--join", text, "--server", followers[0]["address"], "--zone", "joined-3")
        for server in servers(three)["members"]:
            refused = thief.homeport("agent", "--detach", "--join", text, "--server", server["address"], check=False)
            assert "used up" in refused.stderr
        joined = next(host for host in hosts(three) if host["agentConnected"] and host["joinTokenId"] == text.split(".")[1])
        three.homeport("instance", "revoke", joined["identityId"])
        arn = joined["containerInstanceArn"]

        def connected() -> bool:
            return bool(three.ecs.describe_container_instances(containerInstances=[arn])["containerInstances"][0]["agentConnected"])

        assert until(lambda: not connected(), seconds=10)
        (own,) = hosts(three)
        assert own["agentConnected"], "the others' connections stay"
    finally:
        away.homeport("down", check=False)


def test_a_machine_joins_over_tls_with_nothing_but_the_token(new_installation):
    installation, away, wrong = new_installation(), new_installation(), new_installation()
    installation.homeport("up", "--detach", "--tls", "--port", str(installation.port))
    endpoint = installation.credentials["endpoint"]
    assert endpoint.startswith("https:")
    text = token(installation)
    away.environment = {"AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt"}  # a bundle of the system's does not come before the token's word
    try:
        away.homeport("agent", "--detach", "--join", text, "--server", endpoint)
        assert sum(host["agentConnected"] for host in hosts(installation)) == 2
        assert (away.data_dir / "agent" / "ca.pem").read_text() == (installation.data_dir / "tls" / "ca.pem").read_text()
        away.homeport("down")
        away.homeport("agent", "--detach")
        other = token(installation)
        refused = wrong.homeport("agent", "--detach", "--join", f"{other[:-64]}{'0' * 64}", "--server", endpoint, check=False)
        assert "not the one that the token names" in refused.stderr
        refused = wrong.homeport("agent", "--detach", "--join", other, "--server", endpoint.replace("https", "http"), check=False)
        assert "speak https" in refused.stderr
    finally:
        away.homeport("down", check=False)
