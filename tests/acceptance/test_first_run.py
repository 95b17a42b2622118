"""Must show 1: a fresh clone, one command, and three containers answer; the aws CLI agrees with Docker. And the rest of the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from acceptance.harness import IMAGE, ROOT, Installation, docker, until

AWS = str(Path(sys.executable).with_name("aws"))
LAUNCHER_SECONDS_MAX = 600
"""A fresh clone makes its Python environment first."""
TASK_LABEL = "com.amazonaws.ecs.task-arn"


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory):
    """The files of this working tree that git would commit, in a directory of their own, without any environment."""
    clone = tmp_path_factory.mktemp("clone") / "homeport"
    names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    yield clone
    shutil.rmtree(clone, ignore_errors=True)


def urls_in(text: str) -> list[str]:
    return re.findall(r"http://127\.0\.0\.1:\d+/", text)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def kill(installation: Installation, name: str) -> None:
    """SIGKILL a program of the installation; gone when this returns."""
    pid = installation.pid(name)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: name not in processes(installation))


def processes(installation: Installation) -> dict[str, int]:
    facts = json.loads(installation.homeport("status", "--json", check=False).stdout)
    return {process["name"]: process["pid"] for process in facts["processes"]}


def connected_at(installation: Installation) -> float:
    """When the connection of the installation's agent was made, in seconds since the epoch."""
    ecs = installation.ecs
    arns = ecs.list_container_instances()["containerInstanceArns"]
    (instance,) = ecs.describe_container_instances(containerInstances=arns, include=["CONTAINER_INSTANCE_HEALTH"])["containerInstances"]
    (detail,) = (item for item in instance["healthStatus"]["details"] if item["type"] == "AGENT_CONNECTIVITY")
    moment: float = detail["lastStatusChange"].timestamp()
    return moment


def start_server(installation: Installation, *more: str) -> None:
    installation.homeport("server", "--detach", "--port", str(installation.port), *more)


def volumes(installation: Installation) -> list[str]:
    """Names of the volumes that the installation made for its tasks."""
    label = f"label=homeport.installation={installation.credentials['installation_id']}"
    return docker("volume", "ls", "--quiet", "--filter", label).split()


def run_service(installation: Installation, name: str, containers: list[dict], **definition: object) -> str:
    """Register a task definition and run a service of one task of it; the task's ARN once it runs."""
    ecs = installation.ecs
    ecs.register_task_definition(family=name, containerDefinitions=containers, **definition)
    ecs.create_service(serviceName=name, taskDefinition=name, desiredCount=1)
    ecs.get_waiter("services_stable").wait(services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 90})
    arn: str = ecs.list_tasks(serviceName=name)["taskArns"][0]
    return arn


def talker(name: str, text: str) -> dict:
    return {"name": name, "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["sh", "-c", f"echo from {name}; {text} exec sleep 600"]}


def test_one_command_in_a_fresh_clone_runs_three_tasks_that_answer(fresh_clone, new_installation):
    installation = new_installation()
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HOMEPORT_VENV", "VIRTUAL_ENV")}
    place = ["--data-dir", str(installation.data_dir)]

    def run(*typed: str) -> str:
        done = subprocess.run(typed, cwd=fresh_clone, env=environ, capture_output=True, text=True, timeout=LAUNCHER_SECONDS_MAX, check=False)
        assert done.returncode == 0, f"{typed}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    up = ["./homeport", "up", "--detach", "--demo", "--port", str(installation.port), *place]
    urls = urls_in(run(*up))
    assert len(urls) == len(set(urls)) == 3, urls
    assert len({get(url) for url in urls}) == 3, "each URL is another container's"

    assert installation.aws("ecs", "list-services")["serviceArns"][0].endswith(":service/default/demo")
    installation.aws("ecs", "wait", "services-stable", "--services", "demo")
    service = installation.aws("ecs", "describe-services", "--services", "demo")["services"][0]
    assert (service["desiredCount"], service["runningCount"], service["pendingCount"]) == (3, 3, 0)

    arns = installation.aws("ecs", "list-tasks", "--service-name", "demo")["taskArns"]
    tasks = installation.aws("ecs", "describe-tasks", "--tasks", *arns)["tasks"]
    assert {task["lastStatus"] for task in tasks} == {"RUNNING"}
    told = {(task["taskArn"], container["runtimeId"]) for task in tasks for container in task["containers"]}
    label = f"label=homeport.installation={installation.credentials['installation_id']}"
    seen = docker("ps", "--no-trunc", "--filter", label, "--format", f'{{{{.Label "{TASK_LABEL}"}}}} {{{{.ID}}}}').splitlines()
    assert told == {tuple(line.split()) for line in seen}
    ports = {str(binding["hostPort"]) for task in tasks for container in task["containers"] for binding in container["networkBindings"]}
    assert ports == {url.rstrip("/").rpartition(":")[2] for url in urls}

    # What `env` prints is enough for the aws CLI in a shell.
    assert "cluster/default" in run(
        "bash", "-c", f'eval "$(./homeport env --data-dir {installation.data_dir})" && "{AWS}" ecs list-clusters --output text'
    )

    assert set(urls_in(run(*up))) == set(urls), "a second `up --demo` keeps the tasks"
    run("./homeport", "down", "--tasks", *place)
    assert installation.containers() == []


def test_env_prints_four_lines_for_eval(new_installation, monkeypatch):
    installation = new_installation()
    key, secret = "KEY/with'quote", 'it\'s a $ecret `x` "y"'
    monkeypatch.setenv("HOMEPORT_ROOT_ACCESS_KEY_ID", key)
    monkeypatch.setenv("HOMEPORT_ROOT_SECRET_ACCESS_KEY", secret)
    start_server(installation, "--account-id", "111122223333", "--region", "eu-central-1")
    lines = installation.homeport("env").stdout.splitlines()
    names = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]
    assert [line.partition("=")[0] for line in lines] == [f"export {name}" for name in names]
    script = "\n".join([*lines, *(f'printf "%s\\n" "${name}"' for name in names)])
    seen = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert seen == [f"http://127.0.0.1:{installation.port}", key, secret, "eu-central-1"]
    made = installation.ecs.create_cluster(clusterName="x")["cluster"]["clusterArn"]
    assert made == "arn:aws:ecs:eu-central-1:111122223333:cluster/x"


def test_a_second_server_on_the_same_directory_names_the_holder(new_installation):
    installation = new_installation()
    start_server(installation)
    pid = installation.pid("server")
    for arguments in (["--detach"], []):
        refused = installation.homeport("server", "--port", str(installation.port), *arguments, check=False)
        assert refused.returncode != 0
        assert str(pid) in refused.stderr
    assert installation.pid("server") == pid


def test_a_server_that_could_not_listen_leaves_the_endpoint_as_it_was(new_installation):
    installation = new_installation()
    start_server(installation)
    installation.homeport("down")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused = installation.homeport("server", "--detach", "--port", str(other.getsockname()[1]), check=False)
    assert refused.returncode == 1
    assert "cannot listen on 127.0.0.1" in refused.stderr
    assert f":{installation.port}'" in installation.homeport("env").stdout
    installation.homeport("server", "--detach")  # on the port used last
    assert installation.ecs.list_clusters()["clusterArns"] == []


def test_the_memory_store_forgets(new_installation):
    installation = new_installation()
    start_server(installation, "--store", "memory")
    installation.client().create_cluster(clusterName="x")
    installation.homeport("down")
    start_server(installation, "--store", "memory")
    assert installation.client().list_clusters()["clusterArns"] == []
    assert not list(installation.data_dir.glob("*.sqlite*"))


def test_up_starts_what_is_missing_and_down_stops_all(new_installation):
    installation = new_installation()
    installation.up()
    before = processes(installation)
    assert list(before) == ["server", "agent"]
    installation.up()
    assert processes(installation) == before
    kill(installation, "server")
    installation.homeport("up", "--detach")  # without --port: the one used last
    after = processes(installation)
    assert after["agent"] == before["agent"]
    assert after["server"] != before["server"]
    kill(installation, "agent")
    installation.up()
    assert processes(installation)["agent"] != before["agent"]
    for pid in processes(installation).values():  # the server first: it cannot say that the agent went away
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not processes(installation))
    began = time.time()
    installation.up()
    assert connected_at(installation) >= began, "a connection of the killed server's life does not count"
    moved = installation.homeport("up", "--detach", "--port", str(installation.free_port()), check=False)
    assert moved.returncode == 1
    assert str(installation.port) in moved.stderr
    installation.homeport("down")
    assert processes(installation) == {}
    assert installation.homeport("status", check=False).returncode == 3
    assert installation.homeport("down").returncode == 0


def test_up_on_a_drained_machine_says_so_and_leaves_the_programs_running(new_installation):
    installation = new_installation()
    installation.up()
    arns = installation.ecs.list_container_instances()["containerInstanceArns"]
    installation.ecs.update_container_instances_state(containerInstances=arns, status="DRAINING")
    before = processes(installation)
    said = installation.homeport("up", "--detach", check=False, timeout=20)
    assert said.returncode == 1
    assert f"update-container-instances-state --status ACTIVE --container-instances {arns[0]}" in said.stderr
    assert processes(installation) == before
    installation.ecs.update_container_instances_state(containerInstances=arns, status="ACTIVE")
    installation.homeport("up", "--detach")


def test_up_registers_a_machine_anew_that_was_deregistered(new_installation):
    installation = new_installation()
    installation.up()
    (gone,) = installation.ecs.list_container_instances()["containerInstanceArns"]
    installation.ecs.deregister_container_instance(containerInstance=gone, force=True)
    installation.up()
    (now,) = installation.ecs.list_container_instances()["containerInstanceArns"]
    assert now != gone


def test_down_with_tasks_does_not_wait_for_an_agent_that_is_gone(new_installation):
    installation = new_installation()
    installation.up()
    mount = {"sourceVolume": "scratch", "containerPath": "/scratch"}
    run_service(installation, "left", [{**talker("main", ""), "mountPoints": [mount]}], volumes=[{"name": "scratch"}])
    assert volumes(installation) != []
    kill(installation, "agent")
    assert "agent is away" in installation.homeport("down", "--tasks", timeout=60).stderr
    assert processes(installation) == {}
    assert installation.containers() == []
    assert volumes(installation) == []


def test_in_the_foreground_programs_are_kept_running_until_asked_to_end(new_installation, tmp_path):
    installation = new_installation()
    output = (tmp_path / "up.txt").open("wb")
    typed = [str(ROOT / "homeport"), "up", "--port", str(installation.port), "--data-dir", str(installation.data_dir)]
    with output, subprocess.Popen(typed, stdout=output, stderr=output, stdin=subprocess.DEVNULL) as process:
        try:
            assert until(lambda: b"Ctrl-C" in (tmp_path / "up.txt").read_bytes(), seconds=90)
            before = processes(installation)
            os.kill(before["agent"], signal.SIGKILL)
            assert until(lambda: processes(installation).get("agent") not in (None, before["agent"]))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert processes(installation) == {}


def test_what_its_starter_has_ignored_does_not_end_it(new_installation, tmp_path):
    installation = new_installation()
    output = (tmp_path / "up.txt").open("wb")
    typed = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", str(ROOT / "homeport"), "up", "--port", str(installation.port)]
    typed += ["--data-dir", str(installation.data_dir)]
    with output, subprocess.Popen(typed, stdout=output, stderr=output, stdin=subprocess.DEVNULL) as process:
        try:
            assert until(lambda: b"Ctrl-C" in (tmp_path / "up.txt").read_bytes(), seconds=90)
            process.send_signal(signal.SIGHUP)
            time.sleep(2)
            assert process.poll() is None
            assert set(processes(installation)) == {"server", "agent"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert processes(installation) == {}


def test_the_started_programs_keep_none_of_the_callers_descriptors(new_installation):
    installation = new_installation()
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        typed = [str(ROOT / "homeport"), "up", "--detach", "--port", str(installation.port), "--data-dir", str(installation.data_dir)]
        subprocess.run(typed, pass_fds=[writer], capture_output=True, check=True, timeout=120, stdin=subprocess.DEVNULL)
    finally:
        os.close(writer)
    assert os.read(reader, 1) == b"", "the pipe's last writer is closed"
    os.close(reader)
    for pid in processes(installation).values():
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert os.getsid(pid) == pid


def test_two_installations_live_side_by_side(new_installation):
    first, second = new_installation(), new_installation()
    for installation in (first, second):
        installation.up()
        run_service(installation, "sleepers", [talker("main", "")])
    kept = second.containers(running=True)
    assert len(kept) == 1
    assert first.containers(running=True) != kept
    first.homeport("down", "--tasks")
    assert first.containers() == []
    assert second.containers(running=True) == kept


def test_status_and_logs_show_what_runs(new_installation):
    installation = new_installation()
    installation.up("--zone", "us-east-1c")
    arn = run_service(installation, "talkers", [talker("a", "echo oops >&2;"), talker("b", "")])
    identity = arn.rpartition("/")[2]

    text = installation.homeport("status").stdout
    assert re.search(r"^\s+talkers\s+default\s+ACTIVE\s+1\s+1\s+0\s+talkers:1$", text, re.MULTILINE), text
    assert re.search(rf"^\s+{identity}\s+service:talkers\s+RUNNING", text, re.MULTILINE), text
    assert "(service talkers) has started 1 tasks" in text
    facts = json.loads(installation.homeport("status", "--json").stdout)
    assert facts["containerInstances"][0]["agentConnected"] is True
    zones = [a["value"] for a in facts["containerInstances"][0]["attributes"] if a["name"] == "ecs.availability-zone"]
    assert zones == ["us-east-1c"]

    said = installation.homeport("logs", identity[:12])
    assert "a | from a\n" in said.stdout
    assert "b | from b\n" in said.stdout
    assert "a | oops\n" in said.stderr
    assert installation.homeport("logs", arn).stdout == said.stdout
    unknown = installation.homeport("logs", "0" * 32, check=False)
    assert unknown.returncode == 1
    assert "no container" in unknown.stderr

    typed = [str(ROOT / "homeport"), "logs", identity, "--follow", "--data-dir", str(installation.data_dir)]
    with subprocess.Popen(typed, stdout=subprocess.PIPE, text=True) as follower:
        installation.ecs.update_service(service="talkers", desiredCount=0)
        output, _ = follower.communicate(timeout=60)  # ends with the task
    assert "b | from b\n" in output


def test_a_wrong_option_is_refused_with_a_reason(new_installation):
    installation = new_installation()
    for arguments, reason in (
        (["--account-id", "12"], "12 digits"),
        (["--port", "99999"], "a port is"),
        (["--region", "nowhere"], "a region looks like"),
    ):
        refused = installation.homeport("up", *arguments, check=False)
        assert refused.returncode == 2
        assert reason in refused.stderr
    unknown = installation.homeport("server", "--detach", "--port", str(installation.port), "--set", "nonsense=1", check=False)
    assert unknown.returncode == 1
    assert "nonsense" in unknown.stderr


def test_down_with_tasks_clears_the_containers_when_the_control_plane_is_gone_and_up_refills(new_installation):
    installation = new_installation()
    installation.up()
    run_service(installation, "talkers", [talker("a", "")])
    kill(installation, "server")
    installation.homeport("down", "--tasks")
    assert installation.containers() == []
    installation.up()
    assert until(lambda: len(installation.containers(running=True)) == 1, seconds=60), "the service wants its task still"


def test_an_agent_that_joins_from_afar_labels_its_containers_with_the_installation(installation, new_installation):
    """`homeport agent --endpoint`: as on another machine, with a data directory of its own."""
    away = new_installation()
    away.environment = {
        "AWS_ACCESS_KEY_ID": installation.access_key_id,
        "AWS_SECRET_ACCESS_KEY": installation.secret_access_key,
        "AWS_DEFAULT_REGION": installation.region,
    }
    away.homeport("agent", "--detach", "--endpoint", installation.endpoint, "--zone", "far-away-1")
    try:
        constraint = {"type": "memberOf", "expression": "attribute:ecs.availability-zone == far-away-1"}
        container = {"name": "main", "image": IMAGE, "memory": 16, "command": ["sh", "-c", "echo hello from afar; sleep 600"], "stopTimeout": 1}
        installation.ecs.register_task_definition(family="afar", containerDefinitions=[container])
        task = installation.ecs.run_task(taskDefinition="afar", placementConstraints=[constraint])["tasks"][0]["taskArn"]
        installation.ecs.get_waiter("tasks_running").wait(tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        described = installation.ecs.describe_tasks(tasks=[task])["tasks"][0]
        assert described["availabilityZone"] == "far-away-1"
        assert described["containers"][0]["runtimeId"] in installation.containers(running=True)
        assert until(lambda: "hello from afar" in away.homeport("logs", task).stdout)
        installation.stop(task)
    finally:
        away.homeport("down", check=False)
