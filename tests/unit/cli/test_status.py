from __future__ import annotations

from homeport.cli.status import TASKS_MAX, screen
from homeport.cli.terminal import table

ARN = "arn:aws:ecs:us-east-1:111122223333"
INSTANCE = {
    "containerInstanceArn": f"{ARN}:container-instance/default/1f",
    "status": "ACTIVE",
    "agentConnected": False,
    "runningTasksCount": 1,
    "pendingTasksCount": 2,
    "remainingResources": [{"name": "CPU", "integerValue": 100}, {"name": "MEMORY", "integerValue": 200}, {"name": "PORTS", "stringSetValue": []}],
}
SERVICE = {
    "serviceName": "web",
    "clusterArn": f"{ARN}:cluster/default",
    "status": "ACTIVE",
    "desiredCount": 3,
    "runningCount": 2,
    "pendingCount": 1,
    "taskDefinition": f"{ARN}:task-definition/web:7",
}


def task(number: int) -> dict:
    return {
        "taskArn": f"{ARN}:task/default/{number:032x}",
        "group": "service:web",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "healthStatus": "HEALTHY",
        "taskDefinitionArn": f"{ARN}:task-definition/web:7",
        "createdAt": 1000.0 + number,
        "containers": [
            {"networkBindings": [{"bindIP": ip, "hostPort": 32768 + number, "containerPort": 80, "protocol": "tcp"} for ip in ("0.0.0.0", "::")]}
        ],
    }


def facts(**changes) -> dict:
    return {
        "dataDir": "/d",
        "processes": [{"name": "server", "pid": 7}],
        "endpoint": "http://127.0.0.1:8470",
        "accountId": "111122223333",
        "region": "us-east-1",
        "answers": True,
        "containerInstances": [INSTANCE],
        "services": [SERVICE],
        "tasks": [task(1)],
        "events": [{"createdAt": 0.0, "message": "(service web) has reached a steady state."}],
        **changes,
    }


def test_the_screen_has_every_fact_in_a_row():
    text = screen(facts())
    assert "server (pid 7)" in text
    assert "1f        default  ACTIVE  away   3      100       200 MiB" in text
    assert "web      default  ACTIVE  3        2        1        web:7" in text
    assert f"{1:032x}  service:web  RUNNING HEALTHY  RUNNING  web:7            32769->80/tcp" in text, "one port once, though bound twice"
    assert "(service web) has reached a steady state." in text


def test_the_newest_tasks_are_shown_and_the_rest_counted():
    lines = screen(facts(tasks=[task(number) for number in range(TASKS_MAX + 5)])).splitlines()
    shown = [line for line in lines if "service:web" in line]
    assert len(shown) == TASKS_MAX
    assert f"{TASKS_MAX + 4:032x}" in shown[0]
    assert "... and 5 more" in lines


def test_an_empty_installation_and_a_silent_one_say_so():
    empty = screen(facts(containerInstances=[], services=[], tasks=[], events=[]))
    assert empty.count("  none") == 4
    assert "does not answer at http://127.0.0.1:8470" in screen(facts(answers=False))


def test_a_table_is_as_wide_as_its_widest_cell():
    assert table(("A", "B"), [("long", "x"), ("s", "y")]) == ["A     B", "long  x", "s     y"]
    assert table(("A",), []) == []
