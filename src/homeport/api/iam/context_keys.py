"""Which condition keys policies look at: GetContextKeysForCustomPolicy and GetContextKeysForPrincipalPolicy, for who wants to simulate them.

Owns: the two operations. Which policies a principal has is `simulation.py`'s to find, whether a document is a policy `iam.document`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from homeport.api.call import Call
from homeport.api.iam import entity
from homeport.api.iam.entity import GROUP, ROLE, USER
from homeport.errors import InvalidInputError, MalformedPolicyDocumentError, NoSuchEntityError
from homeport.iam.amazon_policies import AMAZON_POLICIES
from homeport.iam.document import parse
from homeport.model import arn
from homeport.store.table import Reader
from homeport.store.tables import GROUPS, MANAGED_POLICIES

_VARIABLE: Final = re.compile(r"\$\{([^${},*?]{1,256})[,}]")


async def get_context_keys_for_custom_policy(call: Call, request: Any) -> dict[str, Any]:
    """GetContextKeysForCustomPolicy: of the policies in the request."""
    return {"ContextKeyNames": _keys(request.PolicyInputList)}


async def get_context_keys_for_principal_policy(call: Call, request: Any) -> dict[str, Any]:
    """GetContextKeysForPrincipalPolicy: of those of a user (with its groups), group or role, and more of the request."""
    found = await call.view(lambda reader: list(_documents(reader, call, request.PolicySourceArn)))
    return {"ContextKeyNames": _keys([*found, *(request.PolicyInputList or ())])}


def _documents(reader: Reader, call: Call, source_arn: str) -> Iterator[str]:
    parsed = arn.parse_arn(source_arn)
    noun, _, rest = parsed.resource.partition("/") if parsed else ("", "", "")
    kind = {"user": USER, "group": GROUP, "role": ROLE}.get(noun)
    record = reader.get(kind.table, f"{call.account}/{rest.rpartition('/')[2].lower()}") if kind is not None else None
    if kind is None or record is None or entity.arn_of(kind, record) != source_arn:
        raise NoSuchEntityError(f"The entity with ARN {source_arn} cannot be found.")
    groups = (reader.get(GROUPS, f"{call.account}/{name.lower()}") for name in getattr(record, "groups", ()))
    for holder in (record, *(group for group in groups if group is not None)):
        yield from (policy.document for policy in holder.inline)
        yield from (document for each in holder.attached if (document := _managed(reader, call, each)))


def _managed(reader: Reader, call: Call, policy_arn: str) -> str:
    record = reader.get(MANAGED_POLICIES, f"{call.account}/{policy_arn.rpartition('/')[2].lower()}") if policy_arn not in AMAZON_POLICIES else None
    return record.document if record is not None else AMAZON_POLICIES.get(policy_arn, "")


def _keys(documents: Iterable[str]) -> list[str]:
    """The keys, each once without regard to case, by name. Raises InvalidInputError for what is no policy."""
    found: dict[str, str] = {}
    for document in documents:
        try:
            parse(document)
        except MalformedPolicyDocumentError as error:
            raise InvalidInputError(error.message) from error
        for key in (*_in_conditions(json.loads(document)), *_VARIABLE.findall(document)):
            if ":" in key:
                found.setdefault(key.lower(), key)
    return [found[key] for key in sorted(found)]


def _in_conditions(document: dict[str, Any]) -> Iterator[str]:
    listed = document["Statement"]
    for statement in [listed] if isinstance(listed, dict) else listed:
        for tests in statement.get("Condition", {}).values():
            yield from tests
