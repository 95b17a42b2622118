"""What CreateGateway and UpdateGateway take: the configuration of a gateway of shared Application Load Balancers.

Owns: its limits, its defaults (ecs-reference 3.20 and the model of the API) and its stored form. Never reads the store.
The bounds of header rules are those of Elastic Load Balancing.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api.ecs.task_input import plain
from homeport.errors import InvalidParameterError
from homeport.model.arn import parse_arn
from homeport.model.ecs import gateway as model

PORT: Final = 443
PROTOCOL: Final = "HTTPS"
ALB_COUNT_DEFAULT: Final = 10
ALB_COUNT_MAX: Final = 200
"""As many load balancers as DescribeGateway can name failures of."""
HEADER_NAME_CHARACTERS_MAX: Final = 40
HEADER_VALUES_MAX: Final = 5
HEADER_VALUE_CHARACTERS_MAX: Final = 128

_DEFAULTS: Final[dict[str, Any]] = {
    "scheme": model.INTERNET_FACING,
    "port": PORT,
    "protocol": PROTOCOL,
    "maxAlbCount": ALB_COUNT_DEFAULT,
    "httpDesync": "defensive",
}
_ONE_VARIANT: Final = "Exactly one configuration variant must be set. The one variant there is, is hostSharedAlb."
_INTERNET_ONLY: Final = "dualstack-without-public-ipv4"


def created(configuration: Any, *, subnets_max: int) -> dict[str, Any]:
    """`hostSharedAlb` of a new gateway as it is shown, with ECS's defaults. Raises InvalidParameterError for what ECS does not allow."""
    if configuration.hostSharedAlb is None:
        raise InvalidParameterError(_ONE_VARIANT)
    given = plain(configuration.hostSharedAlb)
    network = {"ipAddressType": "dualstack", **given.get("networkConfiguration", {})}
    shown = {**_DEFAULTS, **given, "networkConfiguration": network}
    _check(shown)
    subnets = network.get("subnets", [])
    if len(subnets) > subnets_max:
        raise InvalidParameterError(f"subnets can have at most {subnets_max} items.")
    if len(set(subnets)) < len(subnets) or not all(subnets):
        raise InvalidParameterError("subnets must be different ones, and none may be blank.")
    if network["ipAddressType"] == _INTERNET_ONLY and shown["scheme"] != model.INTERNET_FACING:
        raise InvalidParameterError(f"The IP address type {_INTERNET_ONLY} is only for internet-facing load balancers.")
    return _without_blanks(shown)


def updated(configuration: Any, *, stored: bytes) -> dict[str, Any]:
    """The stored `hostSharedAlb` with what an update gives over it; blank texts and empty structures take a member away.

    Raises InvalidParameterError for what ECS does not allow.
    """
    if configuration.hostSharedAlb is None:
        raise InvalidParameterError(_ONE_VARIANT)
    given = plain(configuration.hostSharedAlb)
    before: dict[str, Any] = msgspec.json.decode(stored)
    network = {**before["networkConfiguration"], **given.get("networkConfiguration", {})}
    shown = {**before, **given, "networkConfiguration": network}
    _check(shown)
    return _without_blanks(shown)


def _check(shown: dict[str, Any]) -> None:
    if shown["port"] != PORT or shown["protocol"] != PROTOCOL:
        raise InvalidParameterError(f"A gateway supports only {PROTOCOL} at port {PORT}.")
    if not 1 <= shown["maxAlbCount"] <= ALB_COUNT_MAX:
        raise InvalidParameterError(f"maxAlbCount must be between 1 and {ALB_COUNT_MAX}.")
    acl = shown.get("webACLArn")
    if acl and ((found := parse_arn(acl)) is None or found.service not in ("wafv2", "waf-regional")):
        raise InvalidParameterError(f"webACLArn must be the ARN of a web ACL, but was {acl}")
    _check_logs(shown.get("accessLogs", {}))
    if header := shown.get("testTrafficRules", {}).get("header"):
        _check_header(header)


def _check_logs(logs: dict[str, Any]) -> None:
    if "destination" not in logs:
        return
    s3 = logs["destination"].get("s3")
    if s3 is None:
        raise InvalidParameterError("Exactly one destination of access logs must be set. The one there is, is s3.")
    if not s3["bucket"]:
        raise InvalidParameterError("The bucket of access logs can not be blank.")


def _check_header(header: dict[str, Any]) -> None:
    if not 1 <= len(header["name"]) <= HEADER_NAME_CHARACTERS_MAX:
        raise InvalidParameterError(f"The name of a test traffic header must have 1 to {HEADER_NAME_CHARACTERS_MAX} characters.")
    if not 1 <= len(header["values"]) <= HEADER_VALUES_MAX:
        raise InvalidParameterError(f"A test traffic header must have 1 to {HEADER_VALUES_MAX} values.")
    if any(not 1 <= len(value) <= HEADER_VALUE_CHARACTERS_MAX for value in header["values"]):
        raise InvalidParameterError(f"Each value of a test traffic header must have 1 to {HEADER_VALUE_CHARACTERS_MAX} characters.")


def _without_blanks(shown: dict[str, Any]) -> dict[str, Any]:
    network = {name: value for name, value in shown["networkConfiguration"].items() if value}
    return {name: value for name, value in {**shown, "networkConfiguration": network}.items() if value}
