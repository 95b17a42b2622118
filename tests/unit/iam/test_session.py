"""Tokens of sessions: made, opened, and every way of making one up."""

from __future__ import annotations

import base64

import msgspec
import pytest

from homeport.api.signature import AccessKeys, Verifier
from homeport.config import Settings
from homeport.errors import ExpiredTokenError, InvalidSignatureError, UnrecognizedClientError
from homeport.iam import sigv4
from homeport.iam.session import Session, issue, key_id_of, opened
from homeport.model.iam.session_key import SessionKey
from homeport.virtual_clock import VirtualClock

KEY = "k" * 64
ROLE = "arn:aws:iam::123456789012:role/deploy"
SESSION = Session(
    access_key_id="ASIAONE",
    account="123456789012",
    arn="arn:aws:sts::123456789012:assumed-role/deploy/s",
    source_arn=ROLE,
    source_id="AROAONE",
    issued_at=1,
    expires_at=3601,
    policies=("{}",),
    tags=(("Team", "red"),),
)


def test_a_token_gives_back_its_session_and_its_secret():
    issued = issue(SESSION, "key00001", KEY)
    assert opened(issued.token, KEY) == (SESSION, issued.secret)
    assert key_id_of(issued.token) == "key00001"
    assert len(issued.secret) == 40
    assert issued.secret.encode() not in base64.urlsafe_b64decode(issued.token)
    assert 0 < issued.packed_percent < 10


def test_another_session_or_installation_has_another_secret():
    other = issue(msgspec.structs.replace(SESSION, expires_at=3602), "key00001", KEY)
    assert len({issue(SESSION, "key00001", KEY).secret, other.secret, issue(SESSION, "key00001", "o" * 64).secret}) == 3


def test_every_altered_byte_is_refused():
    raw = bytearray(base64.urlsafe_b64decode(issue(SESSION, "key00001", KEY).token))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(UnrecognizedClientError):
            opened(base64.urlsafe_b64encode(raw).decode(), KEY)
        raw[place] ^= 1


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-4],
        lambda t: t[4:],
        lambda t: t + "AAAA",
        lambda t: t + "=",
        lambda t: "",
        lambda t: "é" + t,
        lambda t: t.rstrip("="),
        lambda t: t[:40],
        lambda t: t * 100,
        lambda t: " " + t,
        lambda t: t + "\n",
    ],
)
def test_other_spellings_are_refused(change):
    token = issue(SESSION, "key00001", KEY).token
    if change(token) != token:
        with pytest.raises(UnrecognizedClientError):
            opened(change(token), KEY)


def test_a_token_of_another_installation_is_refused():
    with pytest.raises(UnrecognizedClientError):
        opened(issue(SESSION, "key00001", "o" * 64).token, KEY)


class Door:
    def __init__(self) -> None:
        self.clock, keys = VirtualClock(), AccessKeys()
        keys.change("session_keys", None, SessionKey(id="key00001", secret=KEY, created_at=1.0))
        self.keys = keys
        self.verifier = Verifier(keys, clock=self.clock, settings=Settings(), region="us-east-1")

    def session(self, key_id: str, seconds: int = 900) -> tuple[str, str, str]:
        ends = int(self.clock.now()) + seconds
        issued = issue(msgspec.structs.replace(SESSION, access_key_id=key_id, expires_at=ends), "key00001", KEY)
        return key_id, issued.secret, issued.token

    def call(self, key_id: str, secret: str, token: str | None, *, sign_token: bool = True) -> str:
        given = {b"x-amz-security-token": token.encode()} if token is not None else {}
        headers = {b"host": b"h", **(given if sign_token else {})}
        request = sigv4.Request("POST", b"/", b"", headers, sigv4.EMPTY_BODY_SHA256)
        signature = sigv4.sign(request, sigv4.Credentials(key_id, secret, "us-east-1"), self.clock.now())
        headers |= given | {n.lower().encode(): v.encode() for n, v in signature.items()}
        return self.verifier.principal(request._replace(headers=headers)).arn


async def test_a_session_calls_until_it_ends():
    door = Door()
    mine = door.session("ASIAONE")
    assert door.call(*mine) == SESSION.arn
    assert door.call(*mine) == SESSION.arn  # opened before
    await door.clock.advance(901)
    with pytest.raises(ExpiredTokenError):
        door.call(*mine)


def test_key_secret_and_token_go_together():
    door = Door()
    key, secret, token = door.session("ASIAONE")
    other_key, other_secret, other_token = door.session("ASIATWO")
    for attack in ((key, secret, other_token), (other_key, secret, token), (key, secret, None), (key, secret, "x"), ("AKIAROOT", secret, token)):
        with pytest.raises(UnrecognizedClientError):
            door.call(*attack)
    for wrong in (other_secret, "", "guess"):
        with pytest.raises(InvalidSignatureError):
            door.call(key, wrong, token)
    with pytest.raises(Exception, match="SignedHeader"):
        door.call(key, secret, token, sign_token=False)


def test_sessions_end_with_the_key_that_they_were_made_from():
    door = Door()
    mine = door.session("ASIAONE")
    assert door.call(*mine) == SESSION.arn
    door.keys.change("session_keys", SessionKey(id="key00001", secret=KEY, created_at=1.0), None)
    with pytest.raises(UnrecognizedClientError):
        door.call(*mine)
