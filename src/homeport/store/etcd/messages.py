"""The part of etcd's v3 protocol that Homeport speaks: messages as a table of field numbers, and the names of the calls.

Owns: the message classes, made at import from the table. Never sends anything, and knows nothing of what we store.

There is no generated code: protobuf builds the classes from descriptors that this module writes down. The package of the descriptors is our own, so
that another etcd client in the same process does not collide with it; on the wire only numbers count. Enumerations are plain integers here.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE: Final = "homeport.etcd"
_SCALARS: Final = {"bytes": 12, "string": 9, "int64": 3, "uint64": 4, "int32": 5, "bool": 8}
"""Type numbers of descriptor.proto."""

# Message → field → (number, type); "*" before a type: repeated; a name with a capital: another message; "|" before a type: member of the one oneof.
_TABLE: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Header": {"cluster_id": (1, "uint64"), "member_id": (2, "uint64"), "revision": (3, "int64"), "raft_term": (4, "uint64")},
    "KeyValue": {
        "key": (1, "bytes"),
        "create_revision": (2, "int64"),
        "mod_revision": (3, "int64"),
        "version": (4, "int64"),
        "value": (5, "bytes"),
        "lease": (6, "int64"),
    },
    "Event": {"type": (1, "int32"), "kv": (2, "KeyValue")},
    "RangeRequest": {
        "key": (1, "bytes"),
        "range_end": (2, "bytes"),
        "limit": (3, "int64"),
        "revision": (4, "int64"),
        "sort_order": (5, "int32"),
        "sort_target": (6, "int32"),
        "serializable": (7, "bool"),
        "keys_only": (8, "bool"),
        "count_only": (9, "bool"),
    },
    "RangeResponse": {"header": (1, "Header"), "kvs": (2, "*KeyValue"), "more": (3, "bool"), "count": (4, "int64")},
    "PutRequest": {"key": (1, "bytes"), "value": (2, "bytes"), "lease": (3, "int64")},
    "PutResponse": {"header": (1, "Header")},
    "DeleteRangeRequest": {"key": (1, "bytes"), "range_end": (2, "bytes")},
    "DeleteRangeResponse": {"header": (1, "Header"), "deleted": (2, "int64")},
    "RequestOp": {"request_range": (1, "|RangeRequest"), "request_put": (2, "|PutRequest"), "request_delete_range": (3, "|DeleteRangeRequest")},
    "ResponseOp": {
        "response_range": (1, "|RangeResponse"),
        "response_put": (2, "|PutResponse"),
        "response_delete_range": (3, "|DeleteRangeResponse"),
    },
    "Compare": {
        "result": (1, "int32"),
        "target": (2, "int32"),
        "key": (3, "bytes"),
        "version": (4, "|int64"),
        "create_revision": (5, "|int64"),
        "mod_revision": (6, "|int64"),
        "value": (7, "|bytes"),
        "lease": (8, "|int64"),
    },
    "TxnRequest": {"compare": (1, "*Compare"), "success": (2, "*RequestOp"), "failure": (3, "*RequestOp")},
    "TxnResponse": {"header": (1, "Header"), "succeeded": (2, "bool"), "responses": (3, "*ResponseOp")},
    "CompactionRequest": {"revision": (1, "int64"), "physical": (2, "bool")},
    "CompactionResponse": {"header": (1, "Header")},
    "WatchRequest": {"create_request": (1, "|WatchCreateRequest")},
    "WatchCreateRequest": {
        "key": (1, "bytes"),
        "range_end": (2, "bytes"),
        "start_revision": (3, "int64"),
        "progress_notify": (4, "bool"),
        "filters": (5, "*int32"),
    },
    "WatchResponse": {
        "header": (1, "Header"),
        "watch_id": (2, "int64"),
        "created": (3, "bool"),
        "canceled": (4, "bool"),
        "compact_revision": (5, "int64"),
        "cancel_reason": (6, "string"),
        "events": (11, "*Event"),
    },
    "LeaseGrantRequest": {"ttl": (1, "int64"), "id": (2, "int64")},
    "LeaseGrantResponse": {"header": (1, "Header"), "id": (2, "int64"), "ttl": (3, "int64"), "error": (4, "string")},
    "LeaseRevokeRequest": {"id": (1, "int64")},
    "LeaseRevokeResponse": {"header": (1, "Header")},
    "LeaseKeepAliveRequest": {"id": (1, "int64")},
    "LeaseKeepAliveResponse": {"header": (1, "Header"), "id": (2, "int64"), "ttl": (3, "int64")},
    "Member": {
        "id": (1, "uint64"),
        "name": (2, "string"),
        "peer_urls": (3, "*string"),
        "client_urls": (4, "*string"),
        "is_learner": (5, "bool"),
    },
    "MemberListRequest": {},
    "MemberListResponse": {"header": (1, "Header"), "members": (2, "*Member")},
    "AlarmRequest": {"action": (1, "int32"), "member_id": (2, "uint64"), "alarm": (3, "int32")},
    "AlarmMember": {"member_id": (1, "uint64"), "alarm": (2, "int32")},
    "AlarmResponse": {"header": (1, "Header"), "alarms": (2, "*AlarmMember")},
    "StatusRequest": {},
    "StatusResponse": {
        "header": (1, "Header"),
        "version": (2, "string"),
        "db_size": (3, "int64"),
        "leader": (4, "uint64"),
        "raft_index": (5, "uint64"),
        "raft_term": (6, "uint64"),
        "raft_applied_index": (7, "uint64"),
        "errors": (8, "*string"),
        "db_size_in_use": (9, "int64"),
        "is_learner": (10, "bool"),
    },
    "DefragmentRequest": {},
    "DefragmentResponse": {"header": (1, "Header")},
    "SnapshotRequest": {},
    "SnapshotResponse": {"header": (1, "Header"), "remaining_bytes": (2, "uint64"), "blob": (3, "bytes")},
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    """The table as protobuf's own description of it."""
    file = descriptor_pb2.FileDescriptorProto(name="homeport/etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _TABLE.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number, label=3 if kind.startswith("*") else 1)
            if kind.startswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="choice")
                field.oneof_index = 0
            plain = kind.lstrip("*|")
            if plain in _SCALARS:
                field.type = _SCALARS[plain]
            else:
                field.type, field.type_name = 11, f".{_PACKAGE}.{plain}"
    return file


_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


KeyValue: Any = _message("KeyValue")
Event: Any = _message("Event")
RangeRequest: Any = _message("RangeRequest")
RangeResponse: Any = _message("RangeResponse")
PutRequest: Any = _message("PutRequest")
DeleteRangeRequest: Any = _message("DeleteRangeRequest")
RequestOp: Any = _message("RequestOp")
Compare: Any = _message("Compare")
TxnRequest: Any = _message("TxnRequest")
TxnResponse: Any = _message("TxnResponse")
WatchRequest: Any = _message("WatchRequest")
WatchCreateRequest: Any = _message("WatchCreateRequest")
WatchResponse: Any = _message("WatchResponse")
Member: Any = _message("Member")

EQUAL: Final = 0
"""`Compare.result`"""
CREATE_REVISION: Final = 1
"""`Compare.target`: the compared field is `create_revision` (0: the key is not there)."""
MOD_REVISION: Final = 2
"""`Compare.target`: the compared field is `mod_revision`."""
DELETE: Final = 1
"""`Event.type`; 0 is a put."""
DESCENDING: Final = 2
"""`RangeRequest.sort_order`, by key."""
ALARM_GET: Final = 0
ALARM_DEACTIVATE: Final = 2
NOSPACE: Final = 1
"""`alarm`: a member's database is as large as it may be."""

CALLS: Final[dict[str, tuple[str, Any, Any]]] = {
    name: (f"/etcdserverpb.{service}/{name}", _message(f"{stem}Request"), _message(f"{stem}Response"))
    for service, name, stem in (
        ("KV", "Range", "Range"),
        ("KV", "Txn", "Txn"),
        ("KV", "Compact", "Compaction"),
        ("Watch", "Watch", "Watch"),
        ("Lease", "LeaseGrant", "LeaseGrant"),
        ("Lease", "LeaseRevoke", "LeaseRevoke"),
        ("Lease", "LeaseKeepAlive", "LeaseKeepAlive"),
        ("Cluster", "MemberList", "MemberList"),
        ("Maintenance", "Alarm", "Alarm"),
        ("Maintenance", "Status", "Status"),
        ("Maintenance", "Defragment", "Defragment"),
        ("Maintenance", "Snapshot", "Snapshot"),
    )
}
"""Name of a call → (its path, request class, response class)."""
