"""What is sealed: opened in its place alone, by its key alone, and not at all when a bit of it is another."""

from __future__ import annotations

import base64

import pytest

from homeport.model.secret import Place, Secret, is_sealed
from homeport.vault.envelope import Key, SealBrokenError, key_id_of

PLACE = Place("access_keys", "AKIA1", "secret")
MATERIAL, NONCE = bytes(range(32)), bytes(12)


def test_what_is_sealed_is_opened_in_its_place():
    key = Key("abcd1234", MATERIAL)
    sealed = key.seal(b"canary", PLACE, NONCE)
    assert key.open(sealed, PLACE) == b"canary"
    assert is_sealed(sealed)
    assert key_id_of(sealed) == "abcd1234"
    raw = base64.urlsafe_b64decode(sealed.rpartition(":")[2])
    assert b"canary" not in raw
    assert len(raw) == 12 + len(b"canary") + 16


@pytest.mark.parametrize(
    "place",
    [
        Place("access_keys", "AKIA2", "secret"),
        Place("session_keys", "AKIA1", "secret"),
        Place("access_keys", "AKIA1", "other"),
        Place("access_keysA", "KIA1", "secret"),
        ("access_keys", "AKIA1"),
        ("access_keys/AKIA1/secret",),
    ],
)
def test_it_is_opened_nowhere_else(place):
    key = Key("abcd1234", MATERIAL)
    with pytest.raises(SealBrokenError):
        key.open(key.seal(b"canary", PLACE, NONCE), place)


def test_nor_with_another_key_or_under_another_key_s_name():
    sealed = Key("abcd1234", MATERIAL).seal(b"canary", PLACE, NONCE)
    with pytest.raises(SealBrokenError):
        Key("abcd1234", MATERIAL[::-1]).open(sealed, PLACE)
    with pytest.raises(SealBrokenError):
        Key("other123", MATERIAL).open(sealed, PLACE)
    with pytest.raises(SealBrokenError):
        Key("other123", MATERIAL).open(sealed.replace("abcd1234", "other123"), PLACE)


def test_no_bit_of_it_can_be_another():
    key = Key("abcd1234", MATERIAL)
    head, _, body = key.seal(b"canary", PLACE, NONCE).rpartition(":")
    raw = base64.urlsafe_b64decode(body)
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(SealBrokenError):
            key.open(f"{head}:{base64.urlsafe_b64encode(changed).decode()}", PLACE)
    for broken in ("", "canary", f"{head}:", f"{head}:AAAA", f"{head}:ä", f"{head}:{body[:-4]}", f"{head.replace(':1:', ':2:')}:{body}"):
        with pytest.raises(SealBrokenError):
            key.open(broken, PLACE)


def test_the_refusal_names_the_place_and_nothing_else():
    with pytest.raises(SealBrokenError) as refusal:
        Key("abcd1234", MATERIAL).open("sealed:1:abcd1234:Y2FuYXJ5", PLACE)
    assert "access_keys/AKIA1/secret" in str(refusal.value)
    assert "Y2FuYXJ5" not in str(refusal.value)


def test_a_secret_shows_only_when_it_is_asked_to():
    secret = Secret("canary")
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret:>20}", "%s" % secret, "{}".format(secret), repr([secret]), repr({"a": secret})):  # noqa: UP031, UP032
        assert "canary" not in shown
    assert secret.reveal() == "canary"
    assert type(secret.reveal()) is str
    assert secret.encode() == b"canary"
    assert Secret(secret).reveal() == "canary"
