from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from homeport.errors import NotLeaderError
from homeport.listener import AdvertisedAddressError, ForeignAuthorityError, TlsRequiredError, agree_on_authority, own_endpoint, refuse_unsafe
from homeport.model.installation import Installation
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.tables import INSTALLATION, TABLES
from homeport.virtual_clock import VirtualClock

PLAIN, SECURE = False, True


@pytest.mark.parametrize(
    ("host", "advertise", "secure"),
    [
        ("127.0.0.1", None, PLAIN),
        ("127.0.0.1", "http://127.0.0.1:8470", PLAIN),
        ("127.0.0.1", "https://lb.example", PLAIN),  # who ends TLS stands in front, on this machine
        ("127.0.0.1", None, SECURE),
        ("100.64.7.1", None, SECURE),
        ("0.0.0.0", "https://100.64.7.1:8470", SECURE),
    ],
)
def test_where_a_server_may_listen(host, advertise, secure):
    refuse_unsafe(host, advertise=advertise, secure=secure)


@pytest.mark.parametrize(
    ("host", "advertise", "secure", "error"),
    [
        ("0.0.0.0", None, PLAIN, TlsRequiredError),
        ("0.0.0.0", "https://api.example", PLAIN, TlsRequiredError),
        ("100.64.7.1", None, PLAIN, TlsRequiredError),
        ("::", None, PLAIN, TlsRequiredError),
        ("web.example", None, PLAIN, TlsRequiredError),
        ("127.0.0.1", "http://100.64.7.1:8470", PLAIN, TlsRequiredError),
        ("127.0.0.1", "http://127.0.0.1:8470", SECURE, TlsRequiredError),
        ("100.64.7.1", "http://100.64.7.1:8470", SECURE, TlsRequiredError),
        ("100.64.7.1", "ftp://100.64.7.1", SECURE, AdvertisedAddressError),
        ("100.64.7.1", "100.64.7.1:8470", SECURE, AdvertisedAddressError),
        ("0.0.0.0", None, SECURE, AdvertisedAddressError),
    ],
)
def test_where_it_may_not(host, advertise, secure, error):
    with pytest.raises(error):
        refuse_unsafe(host, advertise=advertise, secure=secure)


def test_what_a_server_says_of_where_it_is():
    assert own_endpoint("127.0.0.1", 8470, advertise=None, secure=PLAIN) == "http://127.0.0.1:8470"
    assert own_endpoint("127.0.0.1", 8470, advertise=None, secure=SECURE) == "https://127.0.0.1:8470"
    assert own_endpoint("0.0.0.0", 8470, advertise="https://api.example/", secure=SECURE) == "https://api.example"


class Trusting:
    """As much of `Certificates` as is asked here."""

    def __init__(self, *fingerprints: str) -> None:
        self.trusted = fingerprints

    def fingerprints(self) -> tuple[str, ...]:
        return self.trusted


@pytest.fixture
async def store():
    clock = VirtualClock()
    made = await Store.open(MemoryBackend(), tables=TABLES, clock=clock)
    found = Installation(id="0" * 16, account="1" * 12, region="us-east-1", created_at=0.0)
    await made.update(lambda tx: tx.put(INSTALLATION, found), cause="test")
    yield made
    await made.close()


async def noted(store) -> str:
    return (await store.view(lambda reader: reader.get(INSTALLATION, "installation"))).authority_sha256


async def agree(store, *fingerprints: str) -> None:
    await agree_on_authority(store, Trusting(*fingerprints), VirtualClock(), directory=Path("/tls"))


async def test_the_first_servers_authority_is_the_installations(store):
    await agree(store, "first")
    assert await noted(store) == "first"
    await agree(store, "first")
    with pytest.raises(ForeignAuthorityError, match=r"copy ca\.pem and ca\.key"):
        await agree(store, "second")
    assert await noted(store) == "first"


async def test_an_authority_whose_copies_are_all_lost_is_replaced_only_by_the_one_that_is_named(store):
    await agree(store, "first")
    for taken, refused in (("", True), ("third", True), ("second", False)):
        with pytest.raises(ForeignAuthorityError, match="tls_take_authority=second") if refused else contextlib.nullcontext():
            await agree_on_authority(store, Trusting("second"), VirtualClock(), directory=Path("/tls"), taken=taken)
    assert await noted(store) == "second"


async def test_one_that_takes_over_is_noted_by_who_trusts_both(store):
    await agree(store, "first")
    await agree(store, "second", "first")
    assert await noted(store) == "second"
    await agree(store, "second")


async def test_a_follower_waits_until_the_leader_has_noted_its_own(store):
    class Follower:
        """The leader notes it after the third question."""

        asked = 0

        async def view(self, function):
            self.asked += 1
            if self.asked == 3:
                await store.update(lambda tx: tx.put(INSTALLATION, with_authority(tx, "first")), cause="test")
            return await store.view(function)

        async def update(self, function, *, cause):
            raise NotLeaderError("elsewhere")

    def with_authority(tx, fingerprint):
        return msgspec.structs.replace(tx.get(INSTALLATION, "installation"), authority_sha256=fingerprint)

    class Clock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            assert seconds > 0

    follower = Follower()
    await agree_on_authority(follower, Trusting("first"), Clock(), directory=Path("/tls"))
    assert follower.asked == 3
    # one that leads no more trusts the older one as well, and leaves it to the leader
    await agree_on_authority(follower, Trusting("second", "first"), Clock(), directory=Path("/tls"))
    assert await noted(store) == "first"
