"""How the command line names a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.store.address import StoreAddressError, backend_of, parse_address
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend


def test_each_kind_is_read():
    assert parse_address("sqlite:/a/b.sqlite").path == Path("/a/b.sqlite")
    assert parse_address("sqlite:b.sqlite").path == Path.cwd() / "b.sqlite"
    assert parse_address("memory").kind == "memory"
    etcd = parse_address("etcd://10.0.0.1:2379,10.0.0.2,etcd3:9999")
    assert (etcd.endpoints, etcd.prefix, etcd.ca) == (("10.0.0.1:2379", "10.0.0.2:2379", "etcd3:9999"), "/homeport/", None)
    assert isinstance(backend_of(parse_address("sqlite:/a/b.sqlite")), SqliteBackend)
    assert isinstance(backend_of(parse_address("memory")), MemoryBackend)


def test_etcd_s_prefix_certificates_and_limits():
    etcd = parse_address("etcd://a/two/parts/?ca=/c/ca.pem&cert=/c/me.pem&key=/c/me.key&max-txn-ops=500&max-request-bytes=3000000")
    assert (etcd.endpoints, etcd.prefix) == (("a:2379",), "/two/parts/")
    assert (etcd.ca, etcd.certificate, etcd.key) == (Path("/c/ca.pem"), Path("/c/me.pem"), Path("/c/me.key"))
    assert etcd.limits == {"txn_operations": 500, "txn_bytes": 3_000_000}
    assert parse_address("etcd://a").limits == {}


@pytest.mark.parametrize(
    "text", ["", "sqlite", "sqlite:", "etcd:", "etcd://", "etcd:///p", "etcd:a", "redis://a", "etcd://a?x=1", "etcd://a?max-txn-ops=many"]
)
def test_what_names_no_store_is_refused(text):
    with pytest.raises(StoreAddressError):
        parse_address(text)
