"""Secrets are compared in constant time, and no object prints one (docs/design/secrets.md)."""

from __future__ import annotations

import ast
import re

import msgspec
import pytest

from homeport.acs.messages import RoleCredentials
from homeport.iam.session import Issued
from homeport.iam.sigv4 import Credentials
from homeport.model.secret import Sealed, hides
from homeport.store.tables import TABLES

COMPARED = re.compile(
    r"(^|_)(secret|password|signature|mac|seal|hmac|material|secret_access_key|private_key|session_token|proof)$|^secretAccessKey$|^sessionToken$"
)
"""Names of what an attacker must not find out byte by byte."""
KEPT = re.compile(r"(?i)^((root_)?secret(_?access_?key)?|.*password|private_key|session_?token)$")
"""Names of fields that hold a secret in clear."""


def name_of(node: ast.expr) -> str:
    """The last word of what an expression is: x.secret, secret, x.mac(…), secret.encode()."""
    if isinstance(node, ast.Call):
        own = name_of(node.func)
        return (
            name_of(node.func.value)
            if isinstance(node.func, ast.Attribute) and own in {"encode", "decode", "hex", "reveal", "strip", "digest"}
            else own
        )
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def compared_carelessly(tree: ast.AST) -> list[int]:
    """Lines that compare something of that name with == or != or `in` with anything but a literal."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for each in node.ops):
            sides = [node.left, *node.comparators]
            if any(COMPARED.search(name_of(side)) for side in sides) and not any(isinstance(side, ast.Constant) for side in sides):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "careless",
    [
        "secret == given",
        "self._mac(x) != y",
        "key.secret in known",
        "given == signature[:32]",
        "known.secret.encode() == b",
        "a.secretAccessKey == b",
    ],
)
def test_the_search_finds_a_careless_comparison(careless):
    assert compared_carelessly(ast.parse(careless)) == [1]


@pytest.mark.parametrize(
    "fine", ["secret == ''", "secret is None", "hmac.compare_digest(secret, given)", "len(secret) == length", "secret_sha256 == x"]
)
def test_the_search_leaves_other_comparisons_alone(fine):
    assert compared_carelessly(ast.parse(fine)) == []


def test_secrets_are_compared_in_constant_time(modules):
    wrong = [f"{module.path}:{line}" for module in modules for line in compared_carelessly(module.tree)]
    assert not wrong, f"compare with hmac.compare_digest: {wrong}"


def hidden_in(node: ast.ClassDef) -> set[str]:
    calls = [each for each in node.decorator_list if isinstance(each, ast.Call) and name_of(each) == "hides"]
    return {argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)}


def test_what_holds_a_secret_does_not_print_it(modules):
    wrong = []
    for module in modules:
        for node in ast.walk(module.tree):
            for field in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(field, ast.AnnAssign) or not KEPT.match(name_of(field.target)):
                    continue
                safe = ast.unparse(field.annotation) in {"Sealed", "Secret"} or "repr=False" in ast.unparse(field)
                if not safe and name_of(field.target) not in hidden_in(node):
                    wrong.append(f"{module.path}:{field.lineno} {node.name}.{name_of(field.target)}")
    assert not wrong, f"have these hidden with @hides, Secret or repr=False: {wrong}"


def test_every_stored_secret_is_declared_sealed():
    stored = {(table.name, field.name) for table in TABLES for field in msgspec.structs.fields(table.record) if KEPT.match(field.name)}
    sealed = {(table.name, name) for table in TABLES for name in table.sealed}
    assert stored <= sealed
    assert ("access_keys", "secret") in sealed
    assert all(field.type != Sealed or field.name in table.sealed for table in TABLES for field in msgspec.structs.fields(table.record))


def test_hidden_fields_show_only_that_they_are_there():
    for holder in (
        Credentials("AKIA", "canary", "r"),
        Issued("canary", "canary", 1),
        RoleCredentials(secretAccessKey="canary", sessionToken="canary"),
    ):
        for shown in (repr(holder), str(holder), f"{holder}", repr([holder]), repr({"a": holder})):
            assert "canary" not in shown
            assert "Secret(...)" in shown
    assert "AKIA" in repr(Credentials("AKIA", "canary", "r"))
    assert repr(RoleCredentials()).count("''") == 6
    with pytest.raises(TypeError, match="has no secrte"):

        @hides("secrte")
        class Wrong(msgspec.Struct):
            secret: str
