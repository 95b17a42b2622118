"""What the operations that make sessions have in common in their requests.

Owns: the checks of duration, session policies and tags. Never decides who may have a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from homeport.errors import InvalidParameterError, MalformedPolicyDocumentError
from homeport.iam.document import parse
from homeport.model import arn

_POLICY_CHARACTERS_MAX: Final = 2048
_POLICY_ARNS_MAX: Final = 10
_TAGS_MAX: Final = 50


def duration(given: int | None, longest: int, *, default: int) -> int:
    """Seconds; 900 at least, which the model checks. Raises InvalidParameterError above `longest`."""
    seconds = given or min(default, longest)
    if seconds > longest:
        raise InvalidParameterError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    return seconds


def policies(request: Any, account: str) -> tuple[str, ...]:
    """The session's own policies: the inline one's JSON, and ARNs.

    Raises MalformedPolicyDocumentError for JSON that is no policy, InvalidParameterError for too many, or one of another account.
    """
    inline = (request.Policy,) if request.Policy else ()
    for document in inline:
        if len(document) > _POLICY_CHARACTERS_MAX:
            raise InvalidParameterError(f"A session policy has at most {_POLICY_CHARACTERS_MAX} characters.")
        parse(document, name="session policy")
    arns = tuple(each.arn or "" for each in request.PolicyArns or ())
    if len(arns) > _POLICY_ARNS_MAX:
        raise InvalidParameterError(f"A session has at most {_POLICY_ARNS_MAX} managed policies.")
    for each in arns:
        parsed = arn.parse_arn(each)
        if parsed is None or parsed.service != "iam" or not parsed.resource.startswith("policy/") or parsed.account not in (account, "aws"):
            raise MalformedPolicyDocumentError(f"{each} is not the ARN of a policy that this session can have.")
    return inline + arns


def tags(given: Sequence[Any] | None) -> tuple[tuple[str, str], ...]:
    """Session tags. Raises InvalidParameterError for a key that is there twice without regard to case, reserved, or one too many."""
    return session_tags(tuple((each.Key, each.Value) for each in given or ()))


def session_tags(found: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """`found`, if they can be a session's tags; raises as `tags`."""
    keys = {key.lower() for key, _ in found}
    if len(keys) != len(found):
        raise InvalidParameterError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if len(found) > _TAGS_MAX or any(key.startswith("aws:") for key in keys):
        raise InvalidParameterError(f"A session has at most {_TAGS_MAX} tags, and none whose key begins with aws:.")
    return found


def transitive(given: Sequence[str] | None, own: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Keys in lower case. Raises InvalidParameterError for one that no tag of the request has."""
    keys = tuple(dict.fromkeys(key.lower() for key in given or ()))
    if not set(keys) <= {key.lower() for key, _ in own}:
        raise InvalidParameterError("The specified transitive tag key must be included in the requested tags.")
    return keys
