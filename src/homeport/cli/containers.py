"""A small client of Docker's socket, for the command line.

Owns: `DockerSocket`: ping, list, logs, stop, remove, import an image. Never starts a container: the agent alone does.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from homeport.cli.terminal import CommandError

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
API_VERSION_MAX: Final = (1, 47)
"""The latest version known here; the engine's own is taken when it is older (Docker 29 refuses the oldest, so none is fixed)."""
STOP_SECONDS_MAX: Final = 180.0
"""A container's own timeout is at most 120 s."""
INSTALLATION_LABEL: Final = "homeport.installation"
AGENT_LABEL: Final = "homeport.agent"
TASK_LABEL: Final = "com.amazonaws.ecs.task-arn"
NAME_LABEL: Final = "com.amazonaws.ecs.container-name"


class DockerError(CommandError):
    """Docker does not answer, or answers with an error."""


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DockerSocket:
    """Docker Engine's HTTP API over a unix socket."""

    def __init__(self, host: str = DEFAULT_HOST) -> None:
        """`host` is as in DOCKER_HOST; only unix:// is spoken, since containers and programs share a machine."""
        if not host.startswith("unix://"):
            raise DockerError(f"DOCKER_HOST is {host}; Homeport needs the Docker of this machine (unix://...)")
        self.path = host.removeprefix("unix://")
        self._version = ""

    def version(self) -> dict[str, Any]:
        """What the engine says of itself. Raises OSError when nobody listens or it may not be asked, DockerError when it is not Docker."""
        status, data = self._exchange("GET", "/version", timeout=5.0)
        if status != 200:
            raise DockerError(f"{self.path} answers {status}, which Docker would not")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Every container, running or not, that has all of `labels`."""
        filters = json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
        found: list[dict[str, Any]] = self._json("GET", f"/containers/json?{urlencode({'all': '1', 'filters': filters})}")
        return found

    def is_terminal(self, container_id: str) -> bool:
        """Whether the container has a pseudo-terminal: its log is then one stream without frames."""
        return bool(self._json("GET", f"/containers/{container_id}/json")["Config"]["Tty"])

    def logs(self, container_id: str, *, follow: bool) -> Iterator[tuple[int, bytes]]:
        """What the container said: (1 for stdout or 2 for stderr, bytes) in pieces as they come; with `follow` until it ends."""
        raw = self.is_terminal(container_id)
        query = urlencode({"stdout": "1", "stderr": "1", "follow": "1" if follow else "0"})
        connection = _SocketConnection(self.path, None)
        try:
            connection.request("GET", f"{self._prefix()}/containers/{container_id}/logs?{query}")
            response = connection.getresponse()
            if response.status != 200:
                raise DockerError(f"the logs cannot be read: {_message(response.read())}")
            if raw:
                while piece := response.read1(65_536):
                    yield 1, piece
                return
            while len(header := response.read(8)) == 8:
                yield header[0], response.read(int.from_bytes(header[4:], "big"))
        finally:
            connection.close()

    def stop(self, container_id: str) -> None:
        """Stop a container: its stop signal, then SIGKILL after its own timeout (Docker's is 10 s)."""
        self._exchange("POST", f"{self._prefix()}/containers/{container_id}/stop", timeout=STOP_SECONDS_MAX)

    def remove(self, container_id: str) -> None:
        """Remove a container and its anonymous volumes, running or not; one that is gone is no error."""
        status, data = self._exchange("DELETE", f"{self._prefix()}/containers/{container_id}?force=1&v=1", timeout=60.0)
        if status not in (204, 404, 409):
            raise DockerError(f"container {container_id[:12]} cannot be removed: {_message(data)}")

    def task_volumes(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Volumes that were made for one task each and have all of `labels`: name → the task's ARN. None of them outlives its task by intent."""
        filters = json.dumps({"label": [TASK_LABEL, *(f"{name}={value}" for name, value in labels.items())]})
        found = self._json("GET", f"/volumes?{urlencode({'filters': filters})}")["Volumes"] or []
        return {volume["Name"]: volume["Labels"][TASK_LABEL] for volume in found}

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone is no error."""
        status, data = self._exchange("DELETE", f"{self._prefix()}/volumes/{quote(name)}", timeout=60.0)
        if status not in (204, 404):
            raise DockerError(f"volume {name} cannot be removed: {_message(data)}")

    def has_image(self, name: str) -> bool:
        """Whether the image is here."""
        status, _ = self._exchange("GET", f"{self._prefix()}/images/{quote(name)}/json", timeout=30.0)
        return status == 200

    def import_image(self, name: str, archive: bytes, changes: list[str]) -> None:
        """Make an image of one layer from a tar archive. `changes` are Dockerfile lines (CMD, EXPOSE)."""
        repository, _, tag = name.partition(":")
        query = urlencode({"fromSrc": "-", "repo": repository, "tag": tag, "changes": changes}, doseq=True)
        status, data = self._exchange("POST", f"{self._prefix()}/images/create?{query}", body=archive, timeout=120.0)
        if status != 200 or b'"error"' in data:
            raise DockerError(f"image {name} cannot be made: {_message(data)}")

    def _prefix(self) -> str:
        if not self._version:
            spoken = tuple(int(part) for part in str(self.version()["ApiVersion"]).split("."))
            self._version = "v" + ".".join(map(str, min(spoken, API_VERSION_MAX)))
        return f"/{self._version}"

    def _json(self, method: str, path: str) -> Any:
        status, data = self._exchange(method, self._prefix() + path, timeout=60.0)
        if status >= 400:
            raise DockerError(_message(data))
        return json.loads(data)

    def _exchange(self, method: str, path: str, *, body: bytes | None = None, timeout: float) -> tuple[int, bytes]:
        connection = _SocketConnection(self.path, timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/x-tar"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[-300:].decode("utf-8", "replace").strip()
