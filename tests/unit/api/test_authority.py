"""Whose policies apply to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeport.api.authority import Authority
from homeport.iam.amazon_policies import AMAZON_POLICIES
from homeport.iam.document import parse
from homeport.iam.evaluate import Request, evaluate
from homeport.iam.principal import Principal, PrincipalKind
from homeport.model.iam.group import Group
from homeport.model.iam.policy import InlinePolicy, ManagedPolicy, PolicyVersion
from homeport.model.iam.role import Role
from homeport.model.iam.user import User

ACCOUNT = "111122223333"
BOB = Principal(PrincipalKind.USER, f"arn:aws:iam::{ACCOUNT}:user/bob", ACCOUNT)
APP = Principal(PrincipalKind.ROLE_SESSION, f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/teams/app")
SHARED = f"arn:aws:iam::{ACCOUNT}:policy/shared"


def allowing(action: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": action, "Resource": "*"}})


def user(**more: Any) -> User:
    return User(account=ACCOUNT, name="bob", id="AIDA1", created_at=1.0, **more)


def role(**more: Any) -> Role:
    trust = json.dumps({"Statement": {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}})
    return Role(account=ACCOUNT, name="app", path="/teams/", id="AROA1", created_at=1.0, trust=trust, **more)


def managed(*documents: str, default: int = 1) -> ManagedPolicy:
    versions = tuple(PolicyVersion(number=number, document=document, created_at=1.0) for number, document in enumerate(documents, 1))
    return ManagedPolicy(account=ACCOUNT, name="shared", id="ANPA1", created_at=1.0, updated_at=1.0, versions=versions, default_version=default)


class Followed(Authority):
    """One that is told of records by hand."""

    def put(self, table: str, record: Any, before: Any = None) -> None:
        self.change(table, before, record)

    def may(self, who: Principal, action: str, session: tuple[str, ...] | None = None) -> bool:
        return evaluate(Request(who, action, "*", ACCOUNT, {}), self.policies(who, session=session)).allowed


@pytest.fixture
def authority() -> Followed:
    return Followed()


def test_nobody_may_anything_without_policies(authority):
    assert not authority.may(BOB, "ecs:RunTask")
    authority.put("users", user())
    assert not authority.may(BOB, "ecs:RunTask")


def test_inline_attached_and_group_policies_add_up(authority):
    authority.put("managed_policies", managed(allowing("ecs:ListTasks")))
    authority.put(
        "groups", Group(account=ACCOUNT, name="Ops", id="AGPA1", created_at=1.0, inline=(InlinePolicy(name="g", document=allowing("ecs:StopTask")),))
    )
    authority.put("users", user(groups=("ops",), attached=(SHARED,), inline=(InlinePolicy(name="i", document=allowing("ecs:RunTask")),)))
    assert [authority.may(BOB, f"ecs:{name}") for name in ("RunTask", "ListTasks", "StopTask", "StartTask")] == [True, True, True, False]


def test_a_changed_policy_counts_at_once(authority):
    first = user(inline=(InlinePolicy(name="i", document=allowing("ecs:RunTask")),))
    authority.put("users", first)
    assert authority.may(BOB, "ecs:RunTask")
    second = user(inline=(InlinePolicy(name="i", document=allowing("ecs:StopTask")),))
    authority.put("users", second, first)
    assert not authority.may(BOB, "ecs:RunTask")
    authority.put("users", None, second)
    assert not authority.may(BOB, "ecs:StopTask")


def test_the_default_version_counts(authority):
    one = managed(allowing("ecs:RunTask"), allowing("ecs:StopTask"))
    authority.put("managed_policies", one)
    authority.put("users", user(attached=(SHARED,)))
    assert authority.may(BOB, "ecs:RunTask")
    authority.put("managed_policies", managed(allowing("ecs:RunTask"), allowing("ecs:StopTask"), default=2), one)
    assert not authority.may(BOB, "ecs:RunTask")
    assert authority.may(BOB, "ecs:StopTask")


def test_a_role_with_a_path_is_found_by_its_session(authority):
    authority.put("roles", role(attached=("arn:aws:iam::aws:policy/AdministratorAccess",)))
    assert authority.may(APP, "ecs:RunTask")
    assert not authority.may(APP, "ecs:RunTask", session=(allowing("ecs:StopTask"),))
    assert authority.may(APP, "ecs:StopTask", session=(allowing("ecs:StopTask"),))
    assert not authority.may(APP, "ecs:StopTask", session=())


def test_a_boundary_limits_and_a_missing_one_allows_nothing(authority):
    everything = ("arn:aws:iam::aws:policy/AdministratorAccess",)
    authority.put("managed_policies", managed(allowing("ecs:*")))
    authority.put("users", user(attached=everything, boundary=SHARED))
    assert authority.may(BOB, "ecs:RunTask")
    assert not authority.may(BOB, "iam:CreateUser")
    authority.put("users", user(attached=everything, boundary=f"arn:aws:iam::{ACCOUNT}:policy/gone"), user(attached=everything, boundary=SHARED))
    assert not authority.may(BOB, "ecs:RunTask")


def test_a_stored_policy_that_cannot_be_read_allows_nothing(authority):
    authority.put("users", user(inline=(InlinePolicy(name="i", document="{"), InlinePolicy(name="j", document=allowing("ecs:RunTask")))))
    assert authority.may(BOB, "ecs:RunTask")
    assert not authority.may(BOB, "ecs:StopTask")


@pytest.mark.parametrize("policy_arn", sorted(AMAZON_POLICIES))
def test_amazons_policies_are_policies(policy_arn):
    assert parse(AMAZON_POLICIES[policy_arn]).statements
