"""Every error that a caller of the API can meet, under one root.

Owns: the error types, each with AWS's code. Never knows HTTP: `api/faults.py` alone gives a code its status and form.
An error is raised where it happens, with the sentence that the user reads; `temporary` says whether the same call may succeed later.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HomeportError(Exception):
    """The root of all of Homeport's errors."""

    temporary: ClassVar[bool] = False


class ApiError(HomeportError):
    """An error that AWS's API has a code for. `message` is what the user reads."""

    code: ClassVar[str] = "ClientException"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ClientError(ApiError):
    """The caller's action is not possible, for example on a resource it may not be used on."""

    code = "ClientException"


class InvalidParameterError(ApiError):
    """A parameter's value is not valid for the operation."""

    code = "InvalidParameterException"


class ClusterNotFoundError(ApiError):
    """The named cluster does not exist or is INACTIVE."""

    code = "ClusterNotFoundException"

    def __init__(self, message: str = "Cluster not found.") -> None:
        super().__init__(message)


class ServiceNotFoundError(ApiError):
    """The named service does not exist."""

    code = "ServiceNotFoundException"

    def __init__(self, message: str = "Service not found.") -> None:
        super().__init__(message)


class ServiceDeploymentNotFoundError(ApiError):
    """The named service deployment does not exist."""

    code = "ServiceDeploymentNotFoundException"

    def __init__(self, message: str = "Service deployment not found.") -> None:
        super().__init__(message)


class ServiceNotActiveError(ApiError):
    """The named service is DRAINING or INACTIVE."""

    code = "ServiceNotActiveException"

    def __init__(self, message: str = "Service was not ACTIVE.") -> None:
        super().__init__(message)


class TaskSetNotFoundError(ApiError):
    """The named task set does not exist in the service."""

    code = "TaskSetNotFoundException"

    def __init__(self, message: str = "The specified task set does not exist.") -> None:
        super().__init__(message)


class DaemonNotFoundError(ApiError):
    """The named daemon does not exist."""

    code = "DaemonNotFoundException"

    def __init__(self, message: str = "Daemon not found.") -> None:
        super().__init__(message)


class DaemonNotActiveError(ApiError):
    """The named daemon is being deleted."""

    code = "DaemonNotActiveException"

    def __init__(self, message: str = "Daemon was not ACTIVE.") -> None:
        super().__init__(message)


class ResourceNotFoundError(ApiError):
    """The named resource does not exist."""

    code = "ResourceNotFoundException"


class GatewayNotFoundError(ApiError):
    """The named gateway does not exist."""

    code = "GatewayNotFoundException"

    def __init__(self, message: str = "The specified gateway does not exist. Specify a valid name or ARN and try again.") -> None:
        super().__init__(message)


class NamespaceNotFoundError(ApiError):
    """The named namespace does not exist."""

    code = "NamespaceNotFoundException"

    def __init__(self, message: str = "The specified namespace does not exist.") -> None:
        super().__init__(message)


class TargetNotFoundError(ApiError):
    """The target of an attribute does not exist."""

    code = "TargetNotFoundException"


class AttributeLimitExceededError(ApiError):
    """More than 10 custom attributes on one container instance."""

    code = "AttributeLimitExceededException"


class NoUpdateAvailableError(ApiError):
    """No newer agent is there for the container instance."""

    code = "NoUpdateAvailableException"


class LimitExceededError(ApiError):
    """A quota of the account is used up."""

    code = "LimitExceededException"


class ClusterContainsCapacityProviderError(ApiError):
    """The cluster still has capacity providers of its own."""

    code = "ClusterContainsCapacityProviderException"


class ResourceInUseError(ApiError):
    """The resource is in use and cannot be removed."""

    code = "ResourceInUseException"


class ClusterContainsContainerInstancesError(ApiError):
    """The cluster still has container instances."""

    code = "ClusterContainsContainerInstancesException"


class ClusterContainsServicesError(ApiError):
    """The cluster still has services."""

    code = "ClusterContainsServicesException"


class ClusterContainsTasksError(ApiError):
    """The cluster still has tasks."""

    code = "ClusterContainsTasksException"


class UnsupportedFeatureError(ApiError):
    """The operation or a member of it is not supported here."""

    code = "UnsupportedFeatureException"


class ConflictError(ApiError):
    """The same idempotency token came with other parameters, and `resource_ids` are the ARNs of the first call's resources; or what the call is
    about is in a state that does not allow it."""

    code = "ConflictException"

    def __init__(self, message: str, resource_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.resource_ids = resource_ids


class AccountNotFoundError(ApiError):
    """The installation has no such account."""

    code = "AccountNotFoundException"


class AccountAlreadyClosedError(ApiError):
    """The account is closed already."""

    code = "AccountAlreadyClosedException"


class ConstraintViolationError(ApiError):
    """A limit of the installation, or a rule about its accounts, does not allow it."""

    code = "ConstraintViolationException"


class NoSuchEntityError(ApiError):
    """A user, group, role, policy or key that IAM does not have."""

    code = "NoSuchEntity"


class EntityAlreadyExistsError(ApiError):
    """IAM has something of that name already."""

    code = "EntityAlreadyExists"


class DeleteConflictError(ApiError):
    """What is to be deleted still has something that must go first."""

    code = "DeleteConflict"


class IamLimitExceededError(ApiError):
    """A quota of IAM's."""

    code = "LimitExceeded"


class InvalidInputError(ApiError):
    """A parameter of IAM's has no good value."""

    code = "InvalidInput"


class UnmodifiableEntityError(ApiError):
    """A service-linked role, or a policy of Amazon's: only its owner changes it."""

    code = "UnmodifiableEntity"


class MalformedPolicyDocumentError(ApiError):
    """A policy's text is not one in IAM's policy language."""

    code = "MalformedPolicyDocument"


class AccessDeniedError(ApiError):
    """The caller may not do this. Where policies said so, `ruling` tells which (`api/permission.py`), `refused` is the request and the decision."""

    code = "AccessDeniedException"

    def __init__(self, message: str, *, ruling: Any = None, refused: Any = None) -> None:
        super().__init__(message)
        self.ruling = ruling
        self.refused = refused


class RuleViolatedError(ApiError):
    """What the call would make is forbidden by a rule of the account, whatever the caller may do. `recorded`: the message without what the rule found
    in the objects, which may be anything."""

    code = "AccessDeniedException"

    def __init__(self, message: str, *, recorded: str) -> None:
        super().__init__(message)
        self.recorded = recorded


class UnsupportedOperationError(ApiError):
    """An operation of CloudTrail that is not built."""

    code = "UnsupportedOperationException"


class InvalidLookupAttributesError(ApiError):
    """A lookup of events asks for an attribute that there is not, or for more than one."""

    code = "InvalidLookupAttributesException"


class InvalidTimeRangeError(ApiError):
    """The start of a range of time lies after its end."""

    code = "InvalidTimeRangeException"


class InvalidMaxResultsError(ApiError):
    """A page of events cannot be that large."""

    code = "InvalidMaxResultsException"


class InvalidNextTokenError(ApiError):
    """A token of a lookup of events was altered, or belongs to another lookup."""

    code = "InvalidNextTokenException"


class InvalidEventCategoryError(ApiError):
    """There is no such category of events."""

    code = "InvalidEventCategoryException"


class ServerError(ApiError):
    """A temporary failure on the server's side; nothing was changed."""

    code = "ServerException"
    temporary = True


class ServiceUnavailableError(ApiError):
    """The servers cannot agree at the moment: there is no leader, or no majority of etcd. Nothing is wrong with the call; try it again."""

    code = "ServiceUnavailable"
    temporary = True


class MisdirectedError(ApiError):
    """A call that another server sent here because this one led, and it leads no more. Only servers see it; they look for the leader again."""

    code = "NotLeader"
    temporary = True


class InvalidTransitionError(HomeportError):
    """A record was about to move along an edge that its transition table does not have. The message tells the record's story."""


class TransactionTooLargeError(HomeportError):
    """A transaction has more than 100 records or 1 MiB. The caller must split the work."""


class CommitFailedError(HomeportError):
    """The store could not make a transaction durable; it and every transaction behind it were undone. The call may be tried again."""

    temporary = True


class MissingAuthenticationTokenError(ApiError):
    """The request carries no signature."""

    code = "MissingAuthenticationTokenException"

    def __init__(self, message: str = "Missing Authentication Token") -> None:
        super().__init__(message)


class IncompleteSignatureError(ApiError):
    """The request's signature cannot be read: a part is missing or malformed."""

    code = "IncompleteSignatureException"


class InvalidSignatureError(ApiError):
    """The request's signature is not the one that its key gives, or its date or scope is wrong."""

    code = "InvalidSignatureException"


class UnrecognizedClientError(ApiError):
    """The access key is unknown or inactive."""

    code = "UnrecognizedClientException"

    def __init__(self, message: str = "The security token included in the request is invalid.") -> None:
        super().__init__(message)


class ExpiredTokenError(ApiError):
    """The session that signed the request is over. `principal` is who signed, for the record of it."""

    code = "ExpiredTokenException"

    def __init__(self, message: str = "The security token included in the request is expired", *, principal: Any = None) -> None:
        super().__init__(message)
        self.principal = principal


class InvalidIdentityTokenError(ApiError):
    """A web identity token that cannot be read, that no key of its issuer signed, that is for somebody else, or of an issuer that is not known."""

    code = "InvalidIdentityToken"


class WebIdentityExpiredError(ApiError):
    """A web identity token that was good once. STS calls it ExpiredTokenException: our name for an expired session, which STS calls ExpiredToken."""

    code = "WebIdentityExpired"


class IdpCommunicationError(ApiError):
    """The issuer of a web identity token did not answer."""

    code = "IDPCommunicationError"
    temporary = True


class IdpRejectedClaimError(ApiError):
    """A web identity token whose claims do not hold now."""

    code = "IDPRejectedClaim"


class InvalidAuthorizationMessageError(ApiError):
    """An encoded authorization message that was not made here, was altered, or is too old."""

    code = "InvalidAuthorizationMessageException"


class PackedPolicyTooLargeError(ApiError):
    """A session's policies and tags are too much for a token."""

    code = "PackedPolicyTooLarge"


class UnknownOperationError(ApiError):
    """No operation is named, or one that the service does not have."""

    code = "UnknownOperationException"


class SerializationError(ApiError):
    """The body is no JSON, or a member has another type than the operation's."""

    code = "SerializationException"


class ThrottlingError(ApiError):
    """The account called operations of this class faster than it may."""

    code = "ThrottlingException"
    temporary = True

    def __init__(self, message: str = "Rate exceeded") -> None:
        super().__init__(message)


class RequestTooLargeError(ApiError):
    """The body is larger than a request may be."""

    code = "RequestEntityTooLargeException"


class StoreLockedError(HomeportError):
    """Another process holds the state. `pid` names it, where it could be read."""

    def __init__(self, directory: object, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{directory} is held by {holder}; only one server may use it at a time")
        self.pid = pid


class StoreClosedError(HomeportError):
    """The store is closed or closing; another server, or this one after its restart, takes the call."""

    temporary = True


class StoredFormError(HomeportError):
    """What is stored cannot be read by this program, or a record cannot be stored. The message names the table."""


class WatchLostError(HomeportError):
    """A watcher fell too far behind, or asked for changes that are no longer kept. It starts again from a view."""

    temporary = True


class JournalPrunedError(HomeportError):
    """The journal does not reach back as far as was asked."""


class LeadershipLostError(CommitFailedError):
    """This server does not lead any more; the transaction was undone here and never was durable. Another server leads."""


class CommitUnknownError(LeadershipLostError):
    """Whether the transaction is durable cannot be told before etcd answers again; this server stopped leading and will see it."""


class NotLeaderError(HomeportError):
    """Only the leader changes the state. `leader` is its address, or "" when there is none at the moment."""

    temporary = True

    def __init__(self, leader: str) -> None:
        super().__init__(f"the leader is {leader}" if leader else "there is no leader at the moment; try again")
        self.leader = leader


class NoQuorumError(HomeportError):
    """etcd did not answer in time, so that nobody can tell whether what this server knows is still the newest state."""

    temporary = True


class EtcdUnavailableError(HomeportError):
    """A member of etcd did not answer. Whether the call took effect, or still will, is unknown."""

    temporary = True


class EtcdRefusedError(HomeportError):
    """etcd refused a call: it changed nothing and never will. `code` is gRPC's name for why."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class EtcdCompactedError(HomeportError):
    """Changes as old as those asked for are not kept any more in etcd; the state must be read anew. `revision` is the oldest kept, if known."""

    temporary = True

    def __init__(self, revision: int = 0) -> None:
        super().__init__("etcd no longer keeps changes that old" + (f"; it starts at {revision}" if revision else ""))
        self.revision = revision
