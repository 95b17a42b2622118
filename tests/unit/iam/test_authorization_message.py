"""Encoded authorization messages: for one account, for a day, and not longer than the operation takes."""

from __future__ import annotations

import json

import pytest

from homeport.errors import InvalidAuthorizationMessageError
from homeport.iam.authorization_message import CHARACTERS_MAX, MESSAGE_SECONDS, key_id_of, message, opened, sealed
from homeport.iam.document import parse
from homeport.iam.evaluate import Policies, Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind

ACCOUNT, KEY, NOW = "123456789012", "k" * 64, 1_764_000_000.0


def told(**context: str) -> dict[str, object]:
    bob = Principal(PrincipalKind.USER, f"arn:aws:iam::{ACCOUNT}:user/bob", ACCOUNT)
    request = Request(bob, "ecs:RunTask", "*", ACCOUNT, context)
    policy = parse('{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}', name="p")
    return message(request, evaluate(request, Policies((policy,))), principal_id="AIDA")


def seal(**context: str) -> str:
    return sealed(told(**context), account=ACCOUNT, now=NOW, key_id="abcd1234", key=KEY)


def test_it_is_read_back_by_its_account_within_a_day():
    text = seal(a="b")
    assert key_id_of(text) == "abcd1234"
    assert json.loads(opened(text, KEY, account=ACCOUNT, now=NOW + MESSAGE_SECONDS - 1)) == told(a="b")
    assert b"bob" not in __import__("base64").urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    ("key", "account", "now"), [(KEY, "210987654321", NOW), ("j" * 64, ACCOUNT, NOW), (KEY, ACCOUNT, NOW + MESSAGE_SECONDS), (KEY, ACCOUNT, NOW - 10)]
)
def test_nobody_else_reads_it_and_none_later(key, account, now):
    with pytest.raises(InvalidAuthorizationMessageError):
        opened(seal(), key, account=account, now=now)


def test_no_changed_character_is_taken():
    text = seal()
    for place in range(len(text) - 1):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises(InvalidAuthorizationMessageError):
            opened(changed, KEY, account=ACCOUNT, now=NOW)


def test_one_that_would_be_too_long_goes_without_the_conditions():
    import hashlib

    noise = {f"aws:requesttag/{number}": hashlib.sha512(str(number).encode()).hexdigest() for number in range(200)}
    text = seal(**noise)
    assert len(text) <= CHARACTERS_MAX
    context = json.loads(opened(text, KEY, account=ACCOUNT, now=NOW))["context"]
    assert (context["conditions"]["items"], context["conditionsLeftOut"]) == ([], True)
