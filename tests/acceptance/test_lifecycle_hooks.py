"""Blue/green deployments on real containers, asked by real hooks: a web server, a one-off task, a person at the aws CLI. Takes half a minute."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from acceptance.harness import IMAGE, Installation, until
from acceptance.test_services import register, remove


class Target:
    """A web server that answers hooks as told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - the base class's name
                target.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = json.dumps(target.answers.pop(0) if target.answers else {"hookStatus": "SUCCEEDED"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/check"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.server.shutdown()
    made.server.server_close()


def newest(installation: Installation) -> dict[str, Any]:
    listed = installation.ecs.list_service_deployments(service="shifted")["serviceDeployments"]
    found: dict[str, Any] = installation.ecs.describe_service_deployments(serviceDeploymentArns=[listed[0]["serviceDeploymentArn"]])[
        "serviceDeployments"
    ][0]
    return found


def ends(installation: Installation, status: str) -> dict[str, Any]:
    assert until(lambda: newest(installation)["status"] == status, seconds=90), newest(installation)
    return newest(installation)


def hook_task(installation: Installation, script: str) -> str:
    answer = installation.ecs.register_task_definition(
        family="check", containerDefinitions=[{"name": "check", "image": IMAGE, "memory": 16, "command": ["sh", "-c", script]}]
    )
    arn: str = answer["taskDefinition"]["taskDefinitionArn"]
    return arn


def test_hooks_decide_whether_green_takes_over(installation: Installation, target: Target) -> None:
    first, second, third = (register(installation, "shifted", version) for version in "123")
    passing = hook_task(installation, 'echo "$HOMEPORT_HOOK" | grep -q POST_SCALE_UP')
    failing = hook_task(installation, "exit 3")
    base = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0}
    installation.ecs.create_service(serviceName="shifted", taskDefinition=first, desiredCount=2, deploymentConfiguration=base)
    ends(installation, "SUCCESSFUL")
    blue = set(installation.containers(running=True))

    # A task of the hook's fails: the containers of blue never stopped, those of green are gone.
    hooks = [{"hookTargetArn": failing, "lifecycleStages": ["POST_SCALE_UP"]}]
    installation.ecs.update_service(service="shifted", taskDefinition=second, deploymentConfiguration={**base, "lifecycleHooks": hooks})
    back = ends(installation, "ROLLBACK_SUCCESSFUL")
    assert "exited with 3" in back["statusReason"] or "lifecycle hook" in back["statusReason"]
    assert until(lambda: set(installation.containers(running=True)) == blue, seconds=30)

    # A task, a web server that asks to be called again, and a person: all say yes.
    target.answers = [{"hookStatus": "IN_PROGRESS", "callBackDelay": 1, "hookDetails": {"n": 1}}]
    hooks = [
        {"hookTargetArn": passing, "lifecycleStages": ["POST_SCALE_UP"]},
        {"hookTargetArn": target.url, "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]},
        {"targetType": "PAUSE", "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"]},
    ]
    installation.ecs.update_service(service="shifted", taskDefinition=third, deploymentConfiguration={**base, "lifecycleHooks": hooks})

    def pauses() -> list[dict[str, Any]]:
        return [run for run in newest(installation).get("lifecycleHookDetails", []) if run["status"] == "AWAITING_ACTION"]

    assert until(pauses, seconds=90), newest(installation)
    assert [payload.get("hookDetails") for payload in target.got] == [None, {"n": 1}]
    assert blue <= set(installation.containers(running=True)), "blue serves until green takes over"
    waiting = newest(installation)
    installation.aws(
        "ecs",
        "continue-service-deployment",
        "--service-deployment-arn",
        waiting["serviceDeploymentArn"],
        "--hook-id",
        pauses()[0]["hookId"],
    )
    done = ends(installation, "SUCCESSFUL")
    assert done["targetServiceRevision"]["requestedProductionTrafficWeight"] == 100.0
    assert until(lambda: len(installation.containers(running=True)) == 2, seconds=30)
    assert not blue & set(installation.containers(running=True))
    remove(installation, "shifted")
