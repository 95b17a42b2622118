"""Whose keys are asked for, how often, and where; on a virtual clock and without a network."""

from __future__ import annotations

import json

import pytest

from homeport.api.sts.issuer import DISCOVERY, FAILED_SECONDS, FRESH_SECONDS, ISSUERS_MAX, PAUSE_SECONDS, IssuerError, IssuerKeys
from homeport.errors import IdpCommunicationError, InvalidIdentityTokenError
from homeport.iam.web_identity import Token
from homeport.virtual_clock import VirtualClock

ISSUER = "https://issuer.example.com"
MODULUS = "x" * 342


class Network:
    """Documents by URL."""

    def __init__(self) -> None:
        self.documents: dict[str, object] = {}
        self.asked: list[str] = []
        self.failure: IssuerError | None = None

    def publish(self, issuer: str, *key_ids: str, at: str = "") -> None:
        where = at or f"{issuer}/keys"
        self.documents[issuer + DISCOVERY] = {"issuer": issuer, "jwks_uri": where}
        self.documents[where] = {"keys": [{"kty": "RSA", "kid": key_id, "n": MODULUS, "e": "AQAB"} for key_id in key_ids]}

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if self.failure is not None:
            raise self.failure
        return json.dumps(self.documents[url]).encode()


def token(key_id: str, issuer: str = ISSUER) -> Token:
    return Token("", "RS256", key_id, issuer, {})


@pytest.fixture
def network():
    return Network()


def keys_of(network: Network, clock: VirtualClock, *local: str) -> IssuerKeys:
    return IssuerKeys(clock, local=frozenset(local), read=network)


async def test_keys_are_used_for_an_hour_and_then_asked_for_again(network):
    clock = VirtualClock()
    keys = keys_of(network, clock)
    network.publish(ISSUER, "one")
    await keys.key_of(token("one"))
    await clock.advance(FRESH_SECONDS - 1)
    await keys.key_of(token("one"))
    assert len(network.asked) == 2
    network.publish(ISSUER, "two")
    await clock.advance(2)
    with pytest.raises(InvalidIdentityTokenError):
        await keys.key_of(token("one"))
    assert len(network.asked) == 4


async def test_a_key_that_is_not_there_is_asked_for_at_most_every_half_minute(network):
    clock = VirtualClock()
    keys = keys_of(network, clock)
    network.publish(ISSUER, "one")
    for _ in range(20):
        with pytest.raises(InvalidIdentityTokenError):
            await keys.key_of(token("strange"))
        await clock.advance(PAUSE_SECONDS / 10)
    assert len(network.asked) == 2 * 2


async def test_an_issuer_that_failed_is_left_alone_for_some_seconds(network):
    clock = VirtualClock()
    keys = keys_of(network, clock)
    network.publish(ISSUER, "one")
    network.failure = IssuerError("down", reached=False)
    for _ in range(3):
        with pytest.raises(IdpCommunicationError):
            await keys.key_of(token("one"))
    assert len(network.asked) == 1
    network.failure = None
    await clock.advance(FAILED_SECONDS)
    await keys.key_of(token("one"))


@pytest.mark.parametrize(
    "where", ["http://issuer.example.com/keys", "http://127.0.0.1:8080/keys", "https://127.0.0.1:8080/keys", "file:///etc/passwd", ""]
)
async def test_keys_are_fetched_by_https_and_not_from_what_other_issuers_may(network, where):
    keys = keys_of(network, VirtualClock(), "127.0.0.1:8080")
    network.publish(ISSUER, "one", at=where or " ")
    with pytest.raises(InvalidIdentityTokenError):
        await keys.key_of(token("one"))
    assert network.asked == [ISSUER + DISCOVERY]


async def test_a_local_issuer_may_have_its_keys_on_this_machine(network):
    keys = keys_of(network, VirtualClock(), "127.0.0.1:8080")
    network.publish("http://127.0.0.1:8080", "one")
    assert (await keys.key_of(token("one", "http://127.0.0.1:8080")))["kid"] == "one"


async def test_what_is_kept_is_bounded(network):
    keys = keys_of(network, VirtualClock())
    for number in range(ISSUERS_MAX + 5):
        issuer = f"https://n{number}.example.com"
        network.publish(issuer, "one")
        await keys.key_of(token("one", issuer))
    assert len(keys._kept) == ISSUERS_MAX
    before = len(network.asked)
    await keys.key_of(token("one", f"https://n{ISSUERS_MAX}.example.com"))
    assert len(network.asked) == before
