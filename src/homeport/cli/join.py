"""Joining: this machine becomes a host of an installation, with a key and credentials of its own.

Owns: the way from a token's text to DATA_DIR/agent/host.json, and the local machine's own joining, for which `up` makes the token. Never renews
credentials: the agent does. The root's key never goes to the agent.

A try whose answer was lost is made again with the same key, which is kept before anything is sent; so no token is lost with it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import ssl
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from homeport.cli.client import Api, ApiCallError, ApiUnreachableError, ask_unsigned, connection_to
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.start import CLUSTER, TOKEN_VARIABLE, this_instance
from homeport.cli.terminal import CommandError, Terminal
from homeport.iam import host as host_file
from homeport.iam import join_token, proof
from homeport.iam.host import Host
from homeport.tls.names import is_loopback

TRIES_MAX: Final = 10
PAUSE_SECONDS: Final = 0.5
ASK_SECONDS: Final = 10.0
LOCAL_TOKEN_SECONDS: Final = 600
"""How long the token is good that this machine makes for itself."""
_ATTEMPT: Final = ".joining.json"


def become_host(options: argparse.Namespace, directory: DataDirectory, environ: Mapping[str, str], terminal: Terminal) -> bool:
    """This machine is the host that its agent is to be, where it is to be one; whether it became one now. Raises CommandError.

    With a token (`--join`, HOMEPORT_JOIN_TOKEN) it joins the servers of `--server`; a token that it has joined with already changes nothing. Without
    one it joins its own server, if it has one, and nobody names another.
    """
    text = getattr(options, "join", None) or environ.get(TOKEN_VARIABLE)
    if text == "-":
        text = sys.stdin.readline()
    endpoint = getattr(options, "endpoint", None) or environ.get("ECS_BACKEND_HOST")
    local = directory.credentials()
    if text:
        servers = tuple(endpoint.split(",")) if endpoint else (local.endpoints or (local.endpoint,)) if local is not None else ()
        if not servers:
            raise CommandError("a join token is for a server: name it with --server URL")
        known, token = _known(directory), join_token.read(text)
        if known is not None and token is not None and known.token_id == token.id:
            return False
        directory.make()
        ca_file = getattr(options, "ca_file", None) or environ.get("HOMEPORT_CA_FILE") or ""
        if not ca_file and token is not None and not token.ca_sha256:
            ca_file = environ.get("AWS_CA_BUNDLE") or ""
        host = join(directory, text, endpoints=[each.rstrip("/") for each in servers], ca_file=str(ca_file), terminal=terminal)
        terminal.say(f"this machine joined installation {host.installation} as host {host.identity}")
        return True
    if endpoint or local is None:
        return False
    return join_local(directory, local, cluster=environ.get("ECS_CLUSTER") or CLUSTER, terminal=terminal)


def join(directory: DataDirectory, text: str, *, endpoints: Sequence[str], ca_file: str, terminal: Terminal) -> Host:
    """This machine as a host, kept in `directory.host`. `ca_file`: whom to trust, "" for whom the token names, else the system.

    Raises CommandError when the token is refused, nobody answers, or whoever answers is not the one that the token names.
    """
    token = join_token.read(text)
    if token is None:
        raise CommandError("this is no join token; `homeport token create` makes one")
    _refuse_in_the_clear(endpoints)
    directory.host_ca.unlink(missing_ok=True)  # of an earlier joining
    trusted = ca_file or _pinned(directory, endpoints, token.ca_sha256)
    attempt = _attempt(directory, token.id, endpoints, _installation(endpoints, trusted))
    answer = _ask(text.strip(), attempt, trusted=trusted, terminal=terminal)
    try:
        host = attempt.with_credentials(answer)
    except msgspec.ValidationError as error:
        raise CommandError(f"what answers there is no Homeport of this version: {error}") from None
    host_file.write(directory.host, host)
    directory.join(host.installation)
    (directory.agent / _ATTEMPT).unlink(missing_ok=True)
    return host


def join_local(directory: DataDirectory, credentials: LocalCredentials, *, cluster: str, terminal: Terminal) -> bool:
    """This machine is a host of its own installation afterwards; whether it became one now. Raises CommandError.

    Joins anew when its identity was revoked, when its role is gone, when it is to be in another cluster, and when it never joined: an installation
    of a version before this went without. It goes on as the container instance that it is, if that is still registered.
    """
    api = Api(credentials, terminal.clock)
    cluster = cluster.rpartition("/")[2]
    known = _known(directory)
    if known is not None and known.installation == credentials.installation_id and known.cluster == cluster and _is_good(api, known):
        return False
    instance = this_instance(api, cluster, directory.instance_id())
    more = {"containerInstance": instance["containerInstanceArn"]} if instance is not None else {}
    made = api.call("CreateJoinToken", cluster=cluster, expiresInSeconds=LOCAL_TOKEN_SECONDS, **more)
    join(directory, made["token"], endpoints=credentials.endpoints or (credentials.endpoint,), ca_file=credentials.ca_file, terminal=terminal)
    return True


def _known(directory: DataDirectory) -> Host | None:
    try:
        return host_file.read(directory.host)
    except host_file.HostFileError:
        return None  # what cannot be read is made anew


def _is_good(api: Api, host: Host) -> bool:
    try:
        return bool(api.call("DescribeInstanceIdentity", identityId=host.identity)["instanceIdentity"]["roleExists"])
    except ApiCallError as error:
        if error.code == "ResourceNotFoundException":
            return False
        raise
    except ApiUnreachableError:
        return True  # the agent waits for the control plane as ever


def _attempt(directory: DataDirectory, token_id: str, endpoints: Sequence[str], installation: str) -> Host:
    """What is kept of a try with this token before it is made, the same as in the try before."""
    path = directory.agent / _ATTEMPT
    try:
        before = host_file.read(path)
    except host_file.HostFileError:
        before = None
    if before is not None and (before.token_id, before.installation) == (token_id, installation):
        return msgspec.structs.replace(before, endpoints=",".join(endpoints))
    made = Host(installation=installation, endpoints=",".join(endpoints), token_id=token_id, private_key=proof.new_key())
    host_file.write(path, made)
    return made


def _ask(text: str, attempt: Host, *, trusted: str, terminal: Terminal) -> dict[str, Any]:
    """The answer of Join, from the first server that gives one. Raises CommandError."""
    endpoints = attempt.endpoints.split(",")
    replays = 0
    why: CommandError | None = None
    for number in range(TRIES_MAX):
        if number:
            terminal.pause(PAUSE_SECONDS)
        instant_ms = int(terminal.clock.now() * 1000)
        signed = proof.text(proof.JOIN, installation=attempt.installation, subject=attempt.token_id, instant_ms=instant_ms)
        request = {
            "token": text,
            "publicKey": base64.b64encode(proof.public_of(attempt.private_key)).decode(),
            "instantMs": instant_ms,
            "proof": base64.b64encode(proof.made(attempt.private_key, signed)).decode(),
        }
        try:
            return ask_unsigned(endpoints[number % len(endpoints)], "Join", request, ca_file=trusted)
        except ApiUnreachableError as error:
            why = error
        except ApiCallError as error:
            why = CommandError(f"this machine may not join: {error.message}")
            # A server may have asked another one with the same proof before, whose answer was lost: once more, with a newer one.
            replayed = error.code == "AccessDeniedException" and "not newer" in error.message
            replays += replayed
            if replays > 1 or not (replayed or error.code in ("ServiceUnavailable", "ServerException")):
                break
    raise why or CommandError("this machine could not join")


def _refuse_in_the_clear(endpoints: Sequence[str]) -> None:
    for endpoint in endpoints:
        place = urlsplit(endpoint)
        if place.scheme != "https" and not (place.scheme == "http" and is_loopback(place.hostname or "")):
            raise CommandError(f"{endpoint}: a join token goes to other machines over https only")


def _installation(endpoints: Sequence[str], trusted: str) -> str:
    """The id of the installation there. Raises CommandError when none of them answers."""
    why = ""
    for endpoint in endpoints:
        try:
            return str(msgspec.json.decode(_get(endpoint, "/health", trusted))["installationId"])
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            why = f"{endpoint}: {error or type(error).__name__}"
    raise CommandError(f"no server of an installation answers ({why})")


def _get(endpoint: str, path: str, trusted: str) -> bytes:
    connection = connection_to(endpoint, trusted, timeout_seconds=ASK_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _pinned(directory: DataDirectory, endpoints: Sequence[str], ca_sha256: str) -> str:
    """File of the certificates to trust: what a server shows at /ca.pem, if the token's authority is the first of it. "" where the token names none.

    They are asked for over a connection that nobody has verified, which is why nothing but their name in the token makes them believed. Raises
    CommandError.
    """
    if not ca_sha256:
        return ""
    from homeport.tls.contexts import CertificateError, fingerprints

    why = "none of them answers"
    for endpoint in endpoints:
        place = urlsplit(endpoint)
        if place.scheme != "https":
            why = f"the token is for servers that speak https, and {endpoint} does not"
            continue
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(place.hostname or "", place.port, timeout=ASK_SECONDS, context=context)
        try:
            connection.request("GET", "/ca.pem")
            shown = connection.getresponse().read().decode("ascii")
            if ca_sha256 in fingerprints(shown):
                host_file.keep(directory.host_ca, only(shown, ca_sha256).encode("ascii"))
                return str(directory.host_ca)
            why = f"the certificate authority that {endpoint} shows is not the one that the token names"
        except (OSError, ValueError, http.client.HTTPException, CertificateError) as error:
            why = f"{endpoint}: {error}"
        finally:
            connection.close()
    raise CommandError(f"this machine does not know whom to trust: {why}")


def only(shown: str, ca_sha256: str) -> str:
    """Of the certificates that a stranger showed, the one that the token names: others come with the first answer of a server that it vouches for."""
    from homeport.tls.contexts import certificates, fingerprints

    return next(each for each in certificates(shown) if fingerprints(each) == [ca_sha256])
