"""An OpenID Connect issuer on loopback, as a CI system has one: a discovery document, a key set, tokens; and every way in which it can fail."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

DISCOVERY = "/.well-known/openid-configuration"
_ALGORITHMS: dict[str, Any] = {"RS": jwt.algorithms.RSAAlgorithm, "ES": jwt.algorithms.ECAlgorithm}


class Issuer:
    """Answers on its own thread. What it does wrong is set by the attributes."""

    def __init__(self, port: int, path: str = "") -> None:
        self.host = f"127.0.0.1:{port}"
        self.path = path
        self.jwks = f"http://{self.host}/keys"
        self.keys: dict[str, tuple[Any, str]] = {}
        self.asked: list[str] = []
        self.mode = "well"
        """well, broken (503), refusing (403), slow, endless, redirecting, liar (another issuer's document), garbage"""
        self.extra_keys: list[dict[str, Any]] = []
        self.add_key("rsa-1", "RS256")

    @property
    def name(self) -> str:
        return self.host + self.path

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def add_key(self, key_id: str, algorithm: str, *, bits: int = 2048) -> None:
        curves = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
        key = rsa.generate_private_key(65537, bits) if algorithm.startswith("RS") else ec.generate_private_key(curves[algorithm]())
        self.keys[key_id] = (key, algorithm)

    def token(self, key_id: str = "rsa-1", *, without: tuple[str, ...] = (), headers: dict[str, Any] | None = None, **claims: Any) -> str:
        key, algorithm = self.keys[key_id]
        given = {"iss": self.url, "sub": "repo:acme/web:ref:refs/heads/main", "aud": "sts.amazonaws.com", **_times(), **claims}
        payload = {name: value for name, value in given.items() if name not in without}
        with warnings.catch_warnings(action="ignore", category=jwt.warnings.InsecureKeyLengthWarning):
            return jwt.PyJWS().encode(json.dumps(payload).encode(), key, algorithm, headers={"kid": key_id, **(headers or {})})

    def key_set(self) -> dict[str, Any]:
        found = []
        for key_id, (key, algorithm) in self.keys.items():
            public = _ALGORITHMS[algorithm[:2]].to_jwk(key.public_key(), as_dict=True)
            found.append({**public, "kid": key_id, "use": "sig", "alg": algorithm})
        return {"keys": found + self.extra_keys}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.mode == "slow":
            await asyncio.sleep(30)
        if self.mode in ("broken", "refusing"):
            return web.Response(status=503 if self.mode == "broken" else 403)
        if self.mode == "redirecting":
            raise web.HTTPFound(f"http://{self.host}/elsewhere{request.path}")
        if self.mode == "garbage":
            return web.Response(body=b"[" * 100_000)
        if self.mode == "endless":
            return await _endless(request)
        if request.path.endswith(DISCOVERY):
            issuer = "https://issuer.example.com" if self.mode == "liar" else self.url
            return web.json_response({"issuer": issuer, "jwks_uri": self.jwks})
        return web.json_response(self.key_set())


def _times() -> dict[str, int]:
    now = int(time.time())
    return {"iat": now, "nbf": now - 5, "exp": now + 300}


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65_536)
    except (ConnectionError, asyncio.CancelledError):
        return response


async def _serve(issuer: Issuer, listener: socket.socket, ready: threading.Event, found: list[Any]) -> None:
    application = web.Application()
    application.router.add_get("/{path:.*}", issuer.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    ending = asyncio.Event()
    found += [asyncio.get_running_loop(), ending]
    ready.set()
    await ending.wait()
    await runner.cleanup()


@contextmanager
def issuing(path: str = "") -> Iterator[Issuer]:
    """An issuer that answers."""
    ready, found = threading.Event(), []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        issuer = Issuer(listener.getsockname()[1], path)
        thread = threading.Thread(target=lambda: asyncio.run(_serve(issuer, listener, ready, found)))
        thread.start()
        assert ready.wait(20)
        try:
            yield issuer
        finally:
            found[0].call_soon_threadsafe(found[1].set)
            thread.join(20)
