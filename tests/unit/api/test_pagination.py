"""Page tokens: sealed, bound to what they were made for, good on any server of the installation."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.api.call import Call
from homeport.api.pagination import open_token, page_token, paginate
from homeport.errors import InvalidParameterError


def call_of(context, operation="ListTasks", account="123456789012"):
    return Call(context=context, operation=operation, request_id="r", account=account, principal_arn="arn")


@given(key=st.text(max_size=200), filters=st.lists(st.one_of(st.none(), st.text(), st.integers(-5, 5), st.lists(st.text()))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_token_gives_back_its_key_to_the_same_call(context, key, filters):
    token = page_token(call_of(context), key, filters)
    assert open_token(call_of(context), token, filters) == key
    assert token.isascii() and not set(token) & set("+/= \n")


def test_no_token_starts_at_the_beginning(context):
    assert open_token(call_of(context), None) == open_token(call_of(context), "") == ""


async def test_a_token_of_another_operation_account_filter_or_installation_is_refused(context):
    token = page_token(call_of(context), "key", ["RUNNING", None])
    elsewhere = dataclasses.replace(context, installation_id="fedcba9876543210")
    strangers = [
        (call_of(context, operation="ListServices"), ["RUNNING", None]),
        (call_of(context, account="210987654321"), ["RUNNING", None]),
        (call_of(elsewhere), ["RUNNING", None]),
        (call_of(context), ["STOPPED", None]),
        (call_of(context), ["RUNNING", ""]),
        (call_of(context), ["RUNNING"]),
        (call_of(context), [None, "RUNNING"]),
    ]
    for call, filters in strangers:
        with pytest.raises(InvalidParameterError, match=r"^Invalid token"):
            open_token(call, token, filters)
    other_server = dataclasses.replace(context, endpoint="http://elsewhere/")
    assert open_token(call_of(other_server), token, ["RUNNING", None]) == "key"


async def test_any_altered_token_is_refused(context):
    token = page_token(call_of(context), "some/key")
    sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for position in range(len(sealed)):
        altered = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(InvalidParameterError):
            open_token(call_of(context), base64.urlsafe_b64encode(altered).decode().rstrip("="))


@pytest.mark.parametrize("token", ["x", "!", "AQ", "é", "A" * 5000, "AAAA====", " ", "\x00", "None"])
async def test_what_is_no_token_is_refused(context, token):
    with pytest.raises(InvalidParameterError, match=r"^Invalid token"):
        open_token(call_of(context), token)


@given(count=st.integers(0, 30), limit=st.integers(1, 12))
def test_pages_put_together_are_the_whole_list_and_the_last_has_no_successor(count, limit):
    records = [f"{number:03}" for number in range(count)]
    pages, after = [], ""
    while True:
        items, last = paginate((record for record in records if record > after), limit=limit, key=str)
        pages.append(items)
        if last is None:
            break
        assert last == items[-1]
        assert len(items) == limit
        after = last
    assert [record for page in pages for record in page] == records
    assert pages == [[]] or all(pages)


def test_no_more_than_one_record_more_is_taken():
    taken = iter(range(100))
    assert paginate(taken, limit=3, key=str) == ([0, 1, 2], "2")
    assert next(taken) == 4
