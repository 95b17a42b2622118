"""The vault: data keys wrapped by root keys, and what they seal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from homeport.ids import Ids
from homeport.vault.envelope import SealBrokenError
from homeport.vault.keyring import Vault, place_of
from homeport.vault.root_key import KeyFile, RootKeyError, RootKeys

PLACE = place_of("access_keys", "AKIA1")


@pytest.fixture
def roots(tmp_path: Path) -> RootKeys:
    made = RootKeys(KeyFile(tmp_path / "root.key"), Ids().bytes)
    made.create()
    return made


@pytest.fixture
def vault(roots: RootKeys) -> Vault:
    made = Vault(roots, Ids())
    made.change("data_keys", None, made.new_data_key(1.0))
    return made


def test_without_a_data_key_nothing_is_sealed(roots):
    with pytest.raises(RootKeyError, match="no data key yet"):
        Vault(roots, Ids()).seal("canary", PLACE)


def test_a_secret_is_sealed_each_time_anew_and_opens_as_a_secret(vault):
    one, two = vault.seal("canary", PLACE), vault.seal("canary", PLACE)
    assert one != two
    assert vault.open(one, PLACE).reveal() == vault.open(two, PLACE).reveal() == "canary"
    assert "canary" not in repr(vault.open(one, PLACE))
    with pytest.raises(SealBrokenError):
        vault.open(one, place_of("access_keys", "AKIA2"))
    with pytest.raises(SealBrokenError, match="is not sealed with a key of this store"):
        vault.open("canary", PLACE)


def test_the_newest_data_key_seals_and_all_of_them_open(vault):
    first = vault.newest
    sealed = vault.seal("canary", PLACE)
    vault.change("data_keys", None, vault.new_data_key(2.0))
    assert vault.newest.id != first.id
    assert not vault.is_current(sealed)
    assert vault.open(sealed, PLACE).reveal() == "canary"
    assert vault.is_current(vault.seal("canary", PLACE))


def test_an_undone_data_key_is_as_if_it_had_never_been(vault):
    first, second = vault.newest, vault.new_data_key(2.0)
    vault.change("data_keys", None, second)
    sealed = vault.seal("canary", PLACE)
    vault.change("data_keys", second, None)
    assert vault.newest is first
    with pytest.raises(SealBrokenError):
        vault.open(sealed, PLACE)


def test_a_data_key_is_wrapped_by_the_root_key_that_is_in_use_until_a_rotation_moves_all(vault, roots):
    sealed, old = vault.seal("canary", PLACE), roots.newest.id
    roots.source.write((roots.new(), *roots.source.read()))
    roots.load()
    # A server that has been given the new key already makes no key that another server could not open.
    assert vault.new_data_key(2.0).root_key_id == old
    before = vault.newest
    after = vault.rewrapped(before)
    assert (after.id, after.created_at, after.root_key_id) == (before.id, before.created_at, roots.newest.id)
    vault.change("data_keys", before, after)
    assert vault.new_data_key(2.0).root_key_id == roots.newest.id
    fresh = Vault(roots, Ids())
    fresh.change("data_keys", None, after)
    assert fresh.open(sealed, PLACE).reveal() == "canary"


def test_a_wrong_root_key_is_named_before_anything_is_done(vault, roots, tmp_path):
    other = RootKeys(KeyFile(tmp_path / "other.key"), Ids().bytes)
    other.create()
    stranger = Vault(other, Ids())
    stranger.change("data_keys", None, vault.newest)
    with pytest.raises(RootKeyError, match=f"this store needs root key {roots.newest.id}"):
        stranger.require_open()
    altered = msgspec.structs.replace(vault.newest, wrapped=vault.newest.wrapped[:-8] + "AAAAAAA=")
    vault.change("data_keys", vault.newest, altered)
    with pytest.raises(SealBrokenError):
        vault.require_open()
