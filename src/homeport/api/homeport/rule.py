"""PutRule, DeleteRule, ListRules: what an account demands of its task definitions, tasks, services, task sets and daemons.

Owns: the `Rule` records, their checks and their form in the API. Never evaluates a rule: `homeport.rules` does, at admission
(`api/ecs/admission.py`) and in the report (`rule_report.py`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import page
from homeport.errors import InvalidParameterError, LimitExceededError, ResourceNotFoundError
from homeport.model import arn
from homeport.model.homeport.rule import Rule
from homeport.rules.expression import ExpressionError
from homeport.rules.judgement import compiled
from homeport.store.table import Reader, Transaction
from homeport.store.tables import RULES

RULES_MAX: Final = 100
"""Rules of one account."""
_PATTERNS: Final = ("clusters", "families", "services")


async def put_rule(call: Call, request: Any) -> dict[str, Any]:
    """PutRule: a new rule, or the next version of the one of that name; putting what is there already changes nothing.

    Raises InvalidParameterError for an expression that is none, LimitExceededError for one rule too many.
    """
    wanted = rule_of(call, request)

    def put(tx: Transaction) -> Rule:
        before = tx.get(RULES, wanted.key)
        if before is None:
            if sum(1 for _ in tx.scan(RULES, f"{call.account}/")) >= RULES_MAX:
                raise LimitExceededError(f"The account has {RULES_MAX} rules, which is the limit.")
            after = msgspec.structs.replace(wanted, created_at=tx.now, updated_at=tx.now)
        else:
            kept = {name: getattr(before, name) for name in ("version", "created_at", "updated_at", "updated_by")}
            if msgspec.structs.replace(wanted, **kept) == before:
                return before
            after = msgspec.structs.replace(wanted, version=before.version + 1, created_at=before.created_at, updated_at=tx.now)
        tx.put(RULES, after)
        return after

    return {"rule": rule_json(call.region, await call.update(put))}


async def delete_rule(call: Call, request: Any) -> dict[str, Any]:
    """DeleteRule: nothing is refused by it from the next call on. Raises ResourceNotFoundError."""

    def delete(tx: Transaction) -> Rule:
        rule = stored_rule(tx, call, request.name)
        tx.delete(RULES, rule.key)
        return rule

    return {"rule": rule_json(call.region, await call.update(delete))}


async def list_rules(call: Call, request: Any) -> dict[str, Any]:
    """ListRules: the account's rules by name."""
    limit = page.limit_of(request.maxResults)
    after = pagination.open_token(call, request.nextToken)

    def look(reader: Reader) -> dict[str, Any]:
        found, last = pagination.paginate(reader.scan(RULES, f"{call.account}/", after), limit=limit, key=lambda rule: rule.key)
        return {"rules": [rule_json(call.region, rule) for rule in found], **page.next_page(call, last)}

    return await call.view(look)


def stored_rule(reader: Reader, call: Call, name: str) -> Rule:
    """The account's rule of that name. Raises ResourceNotFoundError."""
    rule = reader.get(RULES, f"{call.account}/{name}")
    if rule is None:
        raise ResourceNotFoundError(f"There is no rule {name}.")
    return rule


def rule_of(call: Call, request: Any) -> Rule:
    """The rule that `request` describes, still without its instants. Raises InvalidParameterError."""
    if bool(request.require) == bool(request.violations):
        raise InvalidParameterError("A rule has either require, which must say true, or violations, whose list must be empty.")
    for member in ("require", "violations"):
        if text := getattr(request, member):
            try:
                compiled(text)
            except ExpressionError as error:
                raise InvalidParameterError(f"{member} is no JMESPath expression that can be used: {error}.") from None
    patterns: dict[str, Any] = {member: tuple(dict.fromkeys(getattr(request, member) or ())) for member in _PATTERNS}
    return Rule(
        account=call.account,
        name=request.name,
        mode=request.mode,
        message=request.message or "",
        kinds=tuple(dict.fromkeys(request.resourceTypes or ())),
        require=request.require or "",
        violations=request.violations or "",
        updated_by=call.principal_arn,
        **patterns,
    )


def rule_json(region: str, rule: Rule) -> dict[str, Any]:
    """The API's form: what PutRule takes, and what is kept beside it."""
    given = {
        "message": rule.message,
        "resourceTypes": list(rule.kinds),
        **{member: list(getattr(rule, member)) for member in _PATTERNS},
        "require": rule.require,
        "violations": rule.violations,
    }
    return {
        "ruleArn": arn.rule_arn(region, rule.account, rule.name),
        "name": rule.name,
        "mode": rule.mode,
        **{member: value for member, value in given.items() if value},
        "version": rule.version,
        "createdAt": rule.created_at,
        "updatedAt": rule.updated_at,
        "updatedBy": rule.updated_by,
    }
