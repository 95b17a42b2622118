"""A DAEMON service and task protection on real containers. About 25 s, most of it waiting for what must not happen."""

from __future__ import annotations

import time

from acceptance.harness import IMAGE, Installation, docker, until


def _register(installation: Installation, family: str, seconds: str) -> str:
    container = {"name": "app", "image": IMAGE, "memory": 16, "stopTimeout": 2, "command": ["sleep", seconds]}
    arn: str = installation.ecs.register_task_definition(family=family, containerDefinitions=[container])["taskDefinition"]["taskDefinitionArn"]
    return arn


def test_a_daemon_runs_once_per_instance_and_a_protected_task_outlives_its_update(installation: Installation) -> None:
    ecs = installation.ecs
    first, second = _register(installation, "daemon", "1000"), _register(installation, "daemon", "2000")

    def counts() -> tuple[int, int]:
        found = ecs.describe_services(services=["daemon"])["services"][0]
        return found["desiredCount"], found["runningCount"]

    def replaced(container: str) -> bool:
        found = installation.containers(running=True)
        return len(found) == 1 and found != [container]

    made = ecs.create_service(serviceName="daemon", taskDefinition=first, schedulingStrategy="DAEMON")["service"]
    assert (made["schedulingStrategy"], made["desiredCount"]) == ("DAEMON", 1)
    assert until(lambda: counts() == (1, 1))
    (container,) = installation.containers(running=True)
    docker("kill", container)
    assert until(lambda: replaced(container), seconds=30)
    (old,) = installation.containers(running=True)
    assert until(lambda: counts() == (1, 1))
    (task,) = ecs.list_tasks(serviceName="daemon")["taskArns"]
    protected = ecs.update_task_protection(cluster="default", tasks=[task], protectionEnabled=True, expiresInMinutes=5)
    assert protected["protectedTasks"][0]["protectionEnabled"] and not protected["failures"]
    ecs.update_service(service="daemon", taskDefinition=second)
    time.sleep(4)
    assert installation.containers(running=True) == [old]
    ecs.update_task_protection(cluster="default", tasks=[task], protectionEnabled=False)
    assert until(lambda: replaced(old) and counts() == (1, 1), seconds=30)
    (new,) = installation.containers(running=True)
    assert "2000" in docker("inspect", "--format", "{{.Config.Cmd}} {{.Config.Entrypoint}}", new)
    ecs.delete_service(service="daemon")
    assert until(lambda: not installation.containers(running=True), seconds=30)
