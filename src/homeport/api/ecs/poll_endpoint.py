"""DiscoverPollEndpoint: where an agent opens its control and telemetry connections.

Owns: the paths of the two endpoints. Never checks the instance: the connection itself does.
The upstream agent keeps the answer for 12 h and adds `ws?…` to both addresses (agent-protocol 4.3).
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.call import Call

CONTROL_PATH: Final = "acs/"
TELEMETRY_PATH: Final = "tcs/"


async def discover_poll_endpoint(call: Call, request: Any) -> dict[str, Any]:
    """DiscoverPollEndpoint: this server's two addresses. Service Connect is not built, so it has no address."""
    del request
    root = call.context.endpoint.rstrip("/") + "/"
    return {"endpoint": root + CONTROL_PATH, "telemetryEndpoint": root + TELEMETRY_PATH}
