"""Keys in order, against a sorted list."""

from __future__ import annotations

import random

import pytest

from homeport.store.ordered import CHUNK_KEYS_MAX, NOTES_MAX, OrderedKeys


@pytest.mark.parametrize("seed", range(4))
def test_it_is_a_sorted_set(seed: int):
    chance = random.Random(seed)
    keys, model = OrderedKeys(), set()
    for step in range(20_000):
        key = f"{chance.choice('ab')}/{chance.randrange(30_000):05}"
        if key in model and chance.random() < 0.6:
            keys.remove(key)
            model.remove(key)
        elif key not in model:
            keys.add(key)
            model.add(key)
        if step % 1_500 == 0 or step < 50:
            ordered = sorted(model)
            assert list(keys.walk()) == ordered
            after = f"a/{chance.randrange(30_000):05}"
            assert list(keys.walk(after=after)) == [k for k in ordered if k > after]
            assert list(keys.walk("b/1", after)) == [k for k in ordered if k.startswith("b/1") and k > after]
        assert keys.size == len(model)
    for key in sorted(model, key=lambda _: chance.random()):
        keys.remove(key)
    assert (list(keys.walk()), keys.size) == ([], 0)
    keys.add("again")
    assert list(keys.walk()) == ["again"]


def test_it_takes_keys_that_are_in_order_already():
    ordered = [f"{number:06}" for number in range(3 * CHUNK_KEYS_MAX)]
    keys = OrderedKeys(ordered)
    assert (list(keys.walk()), keys.size) == (ordered, len(ordered))
    assert (list(OrderedKeys().walk()), OrderedKeys().size) == ([], 0)


@pytest.mark.parametrize("count", [10, 3 * NOTES_MAX, 20 * CHUNK_KEYS_MAX])
def test_a_walk_goes_on_while_keys_change(count: int):
    keys = OrderedKeys(f"{number:06}" for number in range(0, count, 2))
    seen = []
    for step, key in enumerate(keys.walk()):
        seen.append(key)
        keys.remove(key)
        keys.add(f"{-1 - step}")  # before everything
        if step == 1:
            keys.remove("000008")
            keys.add("000009")
        if step % 100 == 50:
            next(keys.walk())  # somebody else reads, and works the notes in
    expected = [f"{number:06}" for number in range(0, count, 2)]
    expected.remove("000008")
    assert [key for key in seen if key != "000009"] == expected
    assert keys.size == len(expected) + 1


def test_notes_are_worked_in_before_they_are_many():
    keys = OrderedKeys(f"{number:06}" for number in range(0, 100_000, 2))
    for number in range(1, 50_000, 2):
        keys.add(f"{number:06}")
        assert len(keys._notes) <= NOTES_MAX
    assert keys.size == 75_000
    assert list(keys.walk(after="049998"))[:2] == ["049999", "050000"]
