"""Who is calling: access keys followed from the store, and handshakes of websockets."""

from __future__ import annotations

import pytest

from homeport.api.signature import AccessKeys, Verifier, joined
from homeport.config import Settings
from homeport.errors import InvalidSignatureError, MissingAuthenticationTokenError, UnrecognizedClientError
from homeport.iam import sigv4
from homeport.model.ecs.cluster import Cluster
from homeport.model.iam.access_key import AccessKey
from homeport.virtual_clock import VirtualClock

ROOT = "arn:aws:iam::123456789012:root"


def key(**fields) -> AccessKey:
    return AccessKey(**{"id": "AK", "secret": "s", "account": "123456789012", "principal_arn": ROOT, "created_at": 1.0, **fields})


def test_access_keys_follow_the_store_in_both_directions():
    keys = AccessKeys()
    first, second = key(), key(secret="other")
    keys.change("access_keys", None, first)
    assert keys.active("AK") is first
    assert keys.secret(first).reveal() == "s"
    keys.change("access_keys", first, second)
    assert keys.active("AK") is second
    assert keys.secret(second).reveal() == "other", "a key that was replaced has its new secret"
    keys.change("access_keys", second, first)
    assert keys.active("AK") is first
    keys.change("access_keys", first, key(status="Inactive"))
    with pytest.raises(UnrecognizedClientError):
        keys.active("AK")
    keys.change("access_keys", first, None)
    with pytest.raises(UnrecognizedClientError):
        keys.active("AK")


def test_other_tables_are_none_of_its_business():
    keys = AccessKeys()
    keys.change("clusters", None, Cluster(account="123456789012", name="AK", status="ACTIVE", created_at=1.0))
    with pytest.raises(UnrecognizedClientError):
        keys.active("AK")


def test_a_handshake_is_verified_with_its_query():
    clock, keys = VirtualClock(), AccessKeys()
    keys.change("access_keys", None, key())
    verifier = Verifier(keys, clock=clock, settings=Settings(), region="us-east-1")
    query = b"clusterArn=default&containerInstanceArn=arn%3Aaws%3Aecs%3Ax"
    signed = sigv4.Request("GET", b"/acs/ws", query, {b"host": b"h:1"}, sigv4.EMPTY_BODY_SHA256)
    headers = [(b"host", b"h:1"), (b"upgrade", b"websocket")]
    headers += [(n.lower().encode(), v.encode()) for n, v in sigv4.sign(signed, sigv4.Credentials("AK", "s", "us-east-1"), clock.now()).items()]
    assert verifier.verify("GET", "/acs/ws", query, headers) == ("123456789012", ROOT)
    with pytest.raises(InvalidSignatureError):
        verifier.verify("GET", "/acs/ws", query + b"1", headers)
    with pytest.raises(InvalidSignatureError):
        verifier.verify("GET", "/tcs/ws", query, headers)
    with pytest.raises(MissingAuthenticationTokenError):
        verifier.verify("GET", "/acs/ws", query, headers[:2])


def test_headers_of_one_name_are_joined_in_their_order():
    assert joined([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == {b"a": b"1,3", b"b": b"2"}
    assert joined([]) == {}
