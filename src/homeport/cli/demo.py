"""`homeport up --demo`: a small image made on this machine, a service of three tasks of it, and URLs that answer.

Owns: the image's content, the demo's task definition and service. Never changes a demo that is as it should be.
"""

from __future__ import annotations

import http.client
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.containers import DEFAULT_HOST, DockerSocket
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.packages import download
from homeport.cli.terminal import CommandError, Terminal

IMAGE: Final = "homeport-demo:2"
SERVICE: Final = "demo"
CLUSTER: Final = "default"
TASKS: Final = 3
PORT: Final = 8080
READY_SECONDS_MAX: Final = 90.0
_PROGRAM: Final = """#!/bin/sh
mkdir -p /www
cat > /www/index.html <<END
<!doctype html>
<title>Homeport</title>
<h1>Hello from Homeport</h1>
<p>This page comes from container $(hostname), one of the tasks of the service "demo".</p>
END
echo "serving on port 8080 as $(hostname)"
trap 'kill $server' TERM INT
httpd -f -vv -p 8080 -h /www &
server=$!
wait $server
"""
_DEFINITION: Final[dict[str, Any]] = {
    "family": SERVICE,
    "networkMode": "bridge",
    "containerDefinitions": [
        {
            "name": "web",
            "image": IMAGE,
            "cpu": 16,
            "memory": 32,
            "essential": True,
            "stopTimeout": 2,
            "portMappings": [{"containerPort": PORT, "hostPort": 0, "protocol": "tcp"}],
        }
    ],
}


def run_demo(credentials: LocalCredentials, directory: DataDirectory, *, terminal: Terminal, environ: Mapping[str, str]) -> list[str]:
    """The URLs of the demo's three tasks, each seen to answer; printed too.

    Raises CommandError when the image cannot be made or the tasks do not answer in time.
    """
    docker = DockerSocket(environ.get("DOCKER_HOST") or DEFAULT_HOST)
    if not docker.has_image(IMAGE):
        terminal.say(f"demo: making the image {IMAGE} ...")
        docker.import_image(IMAGE, image_archive(busybox(directory, terminal)), ['CMD ["/bin/serve"]', "ENV PATH=/bin", f"EXPOSE {PORT}"])
    api = Api(credentials, terminal.clock)
    _want_service(api, terminal)
    urls = _wait(api, terminal)
    terminal.show("\n".join(["The demo's tasks answer at:", *(f"  {url}" for url in urls)]))
    return urls


def busybox(directory: DataDirectory, terminal: Terminal) -> bytes:
    """A statically linked busybox: this machine's, else the one of Debian's package, unpacked into the cache.

    Raises CommandError when there is neither.
    """
    candidates = [Path("/bin/busybox"), Path("/usr/bin/busybox"), directory.cache / "busybox-static/bin/busybox"]
    candidates.append(directory.cache / "busybox-static/usr/bin/busybox")
    for attempt in (0, 1):
        for path in candidates:
            if path.is_file() and is_static(program := path.read_bytes()):
                return program
        if attempt == 0 and download("busybox-static", directory.cache, terminal) is None:
            break
    raise CommandError("the demo's image needs a static busybox. Install it with: sudo apt-get install busybox-static")


def is_static(program: bytes) -> bool:
    """Whether an ELF file needs no dynamic loader: no PT_INTERP among its program headers (64-bit, little-endian)."""
    if program[:6] != b"\x7fELF\x02\x01":
        return False
    offset, size, count = (int.from_bytes(program[start:end], "little") for start, end in ((32, 40), (54, 56), (56, 58)))
    kinds = (int.from_bytes(program[offset + size * index :][:4], "little") for index in range(count))
    return 3 not in kinds


def image_archive(program: bytes) -> bytes:
    """The image's one layer: busybox, links to the few of its commands that are used, and the script that serves."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "tmp", "www"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name, content in (("bin/busybox", program), ("bin/serve", _PROGRAM.encode())):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for name in ("sh", "cat", "echo", "hostname", "httpd", "mkdir", "ls", "ps", "sleep", "wget"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return archive.getvalue()


def _want_service(api: Api, terminal: Terminal) -> None:
    """The service is ACTIVE and wants three tasks when this returns."""
    known = api.call("DescribeServices", cluster=CLUSTER, services=[SERVICE])["services"]
    active = [service for service in known if service["status"] == "ACTIVE"]
    if active:
        if active[0]["desiredCount"] < TASKS:
            terminal.say(f"demo: scaling the service to {TASKS} tasks")
            api.call("UpdateService", cluster=CLUSTER, service=SERVICE, desiredCount=TASKS)
        return
    terminal.say(f"demo: creating the service {SERVICE} with {TASKS} tasks in cluster {CLUSTER}")
    definition = api.call("RegisterTaskDefinition", **_DEFINITION)["taskDefinition"]["taskDefinitionArn"]
    api.call("CreateService", cluster=CLUSTER, serviceName=SERVICE, taskDefinition=definition, desiredCount=TASKS, launchType="EC2")


def _wait(api: Api, terminal: Terminal) -> list[str]:
    deadline = terminal.deadline(READY_SECONDS_MAX)
    seen = -1
    while True:
        arns = api.listed("ListTasks", "taskArns", cluster=CLUSTER, serviceName=SERVICE)
        tasks = api.described("DescribeTasks", "tasks", arns, cluster=CLUSTER)
        urls = sorted(url for task in tasks if task["lastStatus"] == "RUNNING" for url in urls_of(task) if _answers(url))
        if len(urls) != seen:
            seen = len(urls)
            terminal.say(f"demo: {seen} of {TASKS} tasks answer")
        if seen >= TASKS:
            return urls
        if terminal.is_past(deadline):
            raise CommandError(f"the demo's tasks do not answer after {READY_SECONDS_MAX:.0f} s; see: ./homeport status")
        terminal.pause(0.1)


def urls_of(task: Mapping[str, Any]) -> list[str]:
    """Where a task's page is: one URL per host port, an IPv6 binding of the same port left out."""
    bindings = [binding for container in task.get("containers", []) for binding in container.get("networkBindings", [])]
    return [f"http://127.0.0.1:{port}/" for port in sorted({binding["hostPort"] for binding in bindings if binding.get("hostPort")})]


def _answers(url: str) -> bool:
    place = url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(place, timeout=2.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
