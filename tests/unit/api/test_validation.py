"""Requests against the model: what the compiled types accept, and AWS's words for what they do not."""

from __future__ import annotations

import json as plain_json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.api import validation
from homeport.api.protocol import json, model
from homeport.errors import ApiError, InvalidParameterError, SerializationError

SERVICE = model.load()


def decode(operation: str, request) -> object:
    return json.decode(SERVICE.operations[operation], request if isinstance(request, bytes) else plain_json.dumps(request).encode())


def refusal(operation: str, request) -> tuple[str, str]:
    with pytest.raises(ApiError) as refused:
        decode(operation, request)
    return refused.value.code, refused.value.message


def test_the_model_has_all_operations_and_every_input_compiles():
    assert len(SERVICE.operations) == 88
    assert SERVICE.target_prefix == "AmazonEC2ContainerServiceV20141113"
    for operation in SERVICE.operations.values():
        assert issubclass(operation.input_type, msgspec.Struct)
        assert {"ClientException", "InvalidParameterException", "ServerException"} <= operation.errors


def test_a_request_has_every_member_of_its_shape_and_absent_is_none():
    request = decode("RunTask", {"taskDefinition": "a:1", "count": 2, "tags": [{"key": "k"}], "startedBy": None})
    assert (request.taskDefinition, request.count, request.startedBy, request.cluster) == ("a:1", 2, None, None)
    assert (request.tags[0].key, request.tags[0].value) == ("k", None)
    assert set(request.__struct_fields__) == set(SERVICE.shapes["RunTaskRequest"].members)


def test_an_encoded_request_holds_what_was_given_and_no_more():
    given_members = {"family": "a", "containerDefinitions": [{"name": "c", "essential": False, "environment": []}]}
    assert msgspec.to_builtins(decode("RegisterTaskDefinition", {**given_members, "taskRoleArn": None})) == given_members


def test_unknown_members_are_passed_over():
    assert decode("ListClusters", {"future": {"a": [1]}, "maxResults": 3}).maxResults == 3


def test_a_python_keyword_gets_an_underscore():
    assert model.attribute_name("in") == "in_"
    document = {
        "metadata": {"targetPrefix": "T", "signingName": "t", "serviceFullName": "T"},
        "operations": {"Do": {"name": "Do", "input": {"shape": "In"}}},
        "shapes": {
            "In": {"type": "structure", "members": {"from": {"shape": "S"}, "class": {"shape": "S"}}, "required": ["from"]},
            "S": {"type": "string"},
        },
    }
    operation = model.ServiceModel(msgspec.json.encode(document)).operations["Do"]
    request = json.decode(operation, b'{"from":"a","class":"b"}')
    assert (request.from_, request.class_) == ("a", "b")


def test_a_missing_member_and_a_null_one_are_the_same():
    sentence = "1 validation error detected: Value null at 'taskDefinition' failed to satisfy constraint: Member must not be null"
    assert refusal("RunTask", {}) == ("InvalidParameterException", sentence)
    assert refusal("RunTask", {"taskDefinition": None}) == ("InvalidParameterException", sentence)


def test_all_violations_are_listed_with_their_paths():
    code, message = refusal(
        "RegisterTaskDefinition",
        {
            "networkMode": "magic",
            "containerDefinitions": [{"name": "a"}, {"portMappings": [{"protocol": "sctp"}], "logConfiguration": {}}],
            "tags": [{"key": "", "value": "v" * 257}, {"key": "tab\there"}, None],
        },
    )
    assert code == "InvalidParameterException"
    head, _, rest = message.partition(": ")
    assert head == "8 validation errors detected"
    assert set(rest.split("; ")) == {
        "Value null at 'family' failed to satisfy constraint: Member must not be null",
        "Value 'magic' at 'networkMode' failed to satisfy constraint: Member must satisfy enum value set: [bridge, host, awsvpc, none]",
        "Value 'sctp' at 'containerDefinitions.2.member.portMappings.1.member.protocol' failed to satisfy constraint: "
        "Member must satisfy enum value set: [tcp, udp]",
        "Value null at 'containerDefinitions.2.member.logConfiguration.logDriver' failed to satisfy constraint: Member must not be null",
        "Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1",
        f"Value '{'v' * 200}…' at 'tags.1.member.value' failed to satisfy constraint: Member must have length less than or equal to 256",
        "Value 'tab\there' at 'tags.2.member.key' failed to satisfy constraint: Member must satisfy regular expression pattern: "
        r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
        "Value null at 'tags.3.member' failed to satisfy constraint: Member must not be null",
    }


def test_a_long_list_of_violations_is_cut():
    _, message = refusal("RegisterTaskDefinition", {"family": "a", "containerDefinitions": [{"logConfiguration": {}}] * 50})
    assert message.startswith("50 validation errors detected: ")
    assert message.count("logDriver") == validation.VIOLATIONS_MAX
    assert message.endswith("; and 30 more")


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        ("RunTask", {"taskDefinition": 3}, "NUMBER_VALUE can not be converted to a String (at 'taskDefinition')"),
        ("RunTask", {"taskDefinition": 3.5}, "DECIMAL_VALUE can not be converted to a String (at 'taskDefinition')"),
        ("RunTask", {"taskDefinition": True}, "TRUE_VALUE can not be converted to a String (at 'taskDefinition')"),
        ("RunTask", {"taskDefinition": "a", "count": "2"}, "STRING_VALUE can not be converted to an Integer (at 'count')"),
        ("RunTask", {"taskDefinition": "a", "count": True}, "TRUE_VALUE can not be converted to an Integer (at 'count')"),
        ("RunTask", {"taskDefinition": "a", "count": 2**31}, "NUMBER_VALUE can not be converted to an Integer (at 'count')"),
        (
            "RunTask",
            {"taskDefinition": "a", "enableECSManagedTags": "yes"},
            "STRING_VALUE can not be converted to a Boolean (at 'enableECSManagedTags')",
        ),
        ("RunTask", {"taskDefinition": "a", "enableECSManagedTags": 0}, "NUMBER_VALUE can not be converted to a Boolean (at 'enableECSManagedTags')"),
        ("RunTask", {"taskDefinition": ["a"]}, "Start of list found where not expected (at 'taskDefinition')"),
        ("RunTask", {"taskDefinition": {"a": 1}}, "Start of structure or map found where not expected (at 'taskDefinition')"),
        ("RunTask", {"taskDefinition": "a", "tags": {"key": "v"}}, "Start of structure or map found where not expected (at 'tags')"),
        ("RunTask", {"taskDefinition": "a", "tags": ["v"]}, "STRING_VALUE can not be converted to a structure (at 'tags.1.member')"),
        ("RunTask", {"taskDefinition": "a", "tags": "v"}, "STRING_VALUE can not be converted to a list (at 'tags')"),
        ("RunTask", [], "Start of list found where not expected"),
        ("RunTask", "text", "STRING_VALUE can not be converted to a structure"),
        (
            "ListServiceDeployments",
            {"service": "a", "createdAt": {"after": "2020"}},
            "STRING_VALUE can not be converted to a Timestamp (at 'createdAt.after')",
        ),
        (
            "RegisterTaskDefinition",
            {"family": "a", "containerDefinitions": [{"dockerLabels": {"a": 1}}]},
            "NUMBER_VALUE can not be converted to a String (at 'containerDefinitions.1.member.dockerLabels.a.member')",
        ),
    ],
)
def test_a_wrong_type_is_a_serialization_error_with_its_place(operation, request_, message):
    assert refusal(operation, request_) == ("SerializationException", message)


def test_a_wrong_type_goes_before_every_violated_constraint():
    assert refusal("RunTask", {"count": "2"})[0] == "SerializationException"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"a":}', b"\xff", b'{"nextToken":"\xff"}', b"[" * 5000, b'{"x":' + b"[" * 5000, b"{}{}", b"\x00"]
)
def test_what_is_no_json_is_a_serialization_error(body):
    assert refusal("ListClusters", body)[0] == "SerializationException"


def test_whole_numbers_with_a_fraction_of_zero_are_whole():
    request = decode("RunTask", {"taskDefinition": "a", "count": 2.0})
    assert request.count == 2
    assert isinstance(request.count, int)
    assert refusal("RunTask", {"taskDefinition": "a", "count": 2.5})[0] == "SerializationException"


def test_bounds_of_numbers():
    weighted = {"taskDefinition": "a", "capacityProviderStrategy": [{"capacityProvider": "c", "weight": 1000, "base": 0}]}
    assert decode("RunTask", weighted).capacityProviderStrategy[0].weight == 1000
    weighted["capacityProviderStrategy"][0] |= {"weight": 1001, "base": -1}
    assert refusal("RunTask", weighted) == (
        "InvalidParameterException",
        "2 validation errors detected: Value '1001' at 'capacityProviderStrategy.1.member.weight' failed to satisfy constraint: "
        "Member must have value less than or equal to 1000; Value '-1' at 'capacityProviderStrategy.1.member.base' failed to satisfy constraint: "
        "Member must have value greater than or equal to 0",
    )


def test_lists_have_limits():
    tags = [{"key": str(number)} for number in range(51)]
    assert len(decode("TagResource", {"resourceArn": "a", "tags": tags[:50]}).tags) == 50
    assert "Member must have length less than or equal to 50" in refusal("TagResource", {"resourceArn": "a", "tags": tags})[1]


@pytest.mark.parametrize(
    ("text", "good"),
    [("Größe_1:a/b=c+d-e@f", True), ("名前", True), ("no\u00a0break", True), ("a b", True), ("a\tb", False), ("a;b", False), ("a\n", False)],
)
def test_tag_characters(text, good):
    request = {"resourceArn": "a", "tags": [{"key": text}]}
    if good:
        assert decode("TagResource", request).tags[0].key == text
    else:
        assert "regular expression pattern" in refusal("TagResource", request)[1]


def hook(details) -> dict:
    return {"serviceName": "a", "deploymentConfiguration": {"lifecycleHooks": [{"hookDetails": details}]}}


@pytest.mark.parametrize("innermost", [[], {}, 1])
def test_a_document_is_any_json_up_to_a_depth(innermost):
    def nested(depth):
        return innermost if depth == (0 if innermost == 1 else 1) else ([nested(depth - 1)] if depth % 2 else {"a": nested(depth - 1)})

    assert decode("CreateService", hook(nested(32))).deploymentConfiguration.lifecycleHooks[0].hookDetails == nested(32)
    code, message = refusal("CreateService", hook(nested(33)))
    assert code == "InvalidParameterException"
    assert message.endswith("at 'deploymentConfiguration.lifecycleHooks.1.member.hookDetails' failed to satisfy constraint: "
                            "Member must not be nested deeper than 32")  # fmt: skip


@pytest.mark.parametrize("document", [None, True, 1, 1.5, "text", [1, [2]], {"a": {"b": None}}, 10**30])
def test_documents_arrive_as_they_are(document):
    assert decode("CreateService", hook(document)).deploymentConfiguration.lifecycleHooks[0].hookDetails == document


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 1000, 5000])
def test_nesting_without_end_is_refused_wherever_it_stands(depth):
    deep = b"[" * depth + b"]" * depth
    for body in (b'{"resourceArn":"a","tags":[' + b",".join([deep] * 51) + b"]}", b'{"resourceArn":"a","tags":[],"more":' + deep + b',"x":0', deep):
        assert refusal("TagResource", body)[0] in {"SerializationException", "InvalidParameterException"}


def values(shape_name: str, depth: int = 0) -> st.SearchStrategy:
    """JSON that nearly fits a shape: now and then a member is missing, null, of another type or out of bounds."""
    shape = SERVICE.shapes[shape_name]
    odd = st.sampled_from([None, 0, -1, 1.0, 2.5, 10**10, "", "x" * 300, "tcp", True, [], {}, [None]])
    if shape.document or depth > 4:
        return odd
    if shape.type == "structure":
        members = {name: values(reference.shape, depth + 1) for name, reference in list(shape.members.items())[:12]}
        fitting = st.fixed_dictionaries({}, optional=members)
        if shape.required:
            fitting = st.one_of(fitting, st.fixed_dictionaries({name: members[name] for name in shape.required if name in members}))
    elif shape.type == "list":
        fitting = st.lists(values(shape.member.shape, depth + 1), max_size=3)
    elif shape.type == "map":
        fitting = st.dictionaries(st.text(max_size=3), values(shape.value.shape, depth + 1), max_size=2)
    elif shape.enum:
        fitting = st.sampled_from(shape.enum)
    else:
        fitting = {"string": st.text(max_size=5), "boolean": st.booleans()}.get(shape.type, st.integers(0, 100))
    return st.integers(0, 40).flatmap(lambda roll: odd if roll == 0 else fitting)


@pytest.mark.parametrize(
    "operation", ["RunTask", "RegisterTaskDefinition", "CreateService", "RegisterContainerInstance", "ContinueServiceDeployment"]
)
@given(data=st.data())
def test_the_walk_and_the_compiled_types_agree(operation, data):
    """Whatever msgspec refuses the walk has words for, and only that (whole numbers spelled with a fraction apart)."""
    modelled = SERVICE.operations[operation]
    request = data.draw(values(modelled.input_shape))
    body = msgspec.json.encode(request)
    try:
        by_type = modelled.decode(body)
    except msgspec.ValidationError:
        by_type = None
    try:
        walked = validation.judge(SERVICE, modelled.input_shape, msgspec.json.decode(body))
    except (SerializationError, InvalidParameterError):
        assert by_type is None
    else:
        converted = msgspec.convert(walked, modelled.input_type)
        assert by_type is None or converted == by_type
        assert json.decode(modelled, body) == converted
