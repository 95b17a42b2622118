"""The agent's environment: which variable sets what, and what is refused."""

from __future__ import annotations

import pytest

from homeport.agent.settings import DEFAULT_RESERVED_PORTS, AgentSettings, AgentSettingsError, from_environment, parse_duration

LEAST = {"ECS_BACKEND_HOST": "http://127.0.0.1:8470/", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_the_least_environment_gives_the_defaults():
    assert from_environment(LEAST) == AgentSettings(
        endpoint="http://127.0.0.1:8470", region="us-east-1", access_key_id="AKID", secret_access_key="secret"
    )


VARIABLES = [
    ("ECS_CLUSTER", "blue", "cluster", "blue"),
    ("ECS_DATADIR", "/d", "data_dir", "/d"),
    ("DOCKER_HOST", "unix:///x", "docker_host", "unix:///x"),
    ("AWS_DEFAULT_REGION", "eu-west-1", "region", "eu-west-1"),
    ("HOMEPORT_INSTALLATION", "abc", "installation_id", "abc"),
    ("HOMEPORT_ZONE", "us-east-1c", "zone", "us-east-1c"),
    ("ECS_INSTANCE_ATTRIBUTES", '{"rack": "7"}', "instance_attributes", (("rack", "7"),)),
    ("ECS_CONTAINER_INSTANCE_TAGS", '{"team": "a"}', "instance_tags", (("team", "a"),)),
    ("ECS_EXTERNAL", "true", "external", True),
    ("ECS_RESERVED_MEMORY", "256", "reserved_memory_mib", 256),
    ("ECS_RESERVED_PORTS", "[22, 8470]", "reserved_ports", (22, 8470)),
    ("ECS_RESERVED_PORTS_UDP", "[53]", "reserved_ports_udp", (53,)),
    ("ECS_DYNAMIC_HOST_PORT_RANGE", "40000-41000", "dynamic_host_port_range", (40000, 41000)),
    ("ECS_AVAILABLE_LOGGING_DRIVERS", '["none"]', "available_logging_drivers", ("none",)),
    ("ECS_IMAGE_PULL_BEHAVIOR", "always", "image_pull_behavior", "always"),
    ("ECS_CONTAINER_STOP_TIMEOUT", "10s", "container_stop_timeout_seconds", 10.0),
    ("ECS_CONTAINER_START_TIMEOUT", "3m", "container_start_timeout_seconds", 180.0),
    ("ECS_CONTAINER_CREATE_TIMEOUT", "4m", "container_create_timeout_seconds", 240.0),
    ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1h", "container_cleanup_seconds", 3600.0),
    ("HOMEPORT_START_POOL", "8", "start_pool_max", 8),
]


@pytest.mark.parametrize(("variable", "text", "field", "value"), VARIABLES)
def test_a_variable_sets_its_field(variable, text, field, value):
    assert getattr(from_environment({**LEAST, variable: text}), field) == value


def test_an_empty_variable_counts_as_absent():
    assert from_environment({**LEAST, "ECS_CLUSTER": " ", "ECS_RESERVED_PORTS": ""}).reserved_ports == DEFAULT_RESERVED_PORTS


def test_the_backend_host_wins_over_the_endpoint_url():
    assert from_environment({**LEAST, "AWS_ENDPOINT_URL": "http://other"}).endpoint == "http://127.0.0.1:8470"
    rest = {name: value for name, value in LEAST.items() if name != "ECS_BACKEND_HOST"}
    assert from_environment({**rest, "AWS_ENDPOINT_URL": "https://other"}).endpoint == "https://other"


@pytest.mark.parametrize("endpoint", ["http://100.64.7.1:8470", "http://127.0.0.1:1,http://web.example", "ftp://127.0.0.1", "ws://127.0.0.1"])
def test_nothing_leaves_the_machine_without_tls(endpoint):
    with pytest.raises(AgentSettingsError, match="https only"):
        from_environment({**LEAST, "HOMEPORT_ENDPOINTS": endpoint})


def test_whom_the_agent_trusts():
    assert from_environment(LEAST).ca_file == ""
    assert from_environment({**LEAST, "AWS_CA_BUNDLE": "/sdk.pem"}).ca_file == "/sdk.pem"
    assert from_environment({**LEAST, "AWS_CA_BUNDLE": "/sdk.pem", "HOMEPORT_CA_FILE": "/ca.pem"}).ca_file == "/ca.pem"


def test_a_host_without_a_scheme_is_https_as_the_upstream_agent_has_it():
    assert from_environment({**LEAST, "ECS_BACKEND_HOST": "ecs.example"}).endpoint == "https://ecs.example"


@pytest.mark.parametrize("missing", LEAST)
def test_what_must_be_there(missing):
    with pytest.raises(AgentSettingsError, match=f"{missing} is not set"):
        from_environment({name: value for name, value in LEAST.items() if name != missing})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ECS_RESERVED_MEMORY", "much"),
        ("ECS_RESERVED_MEMORY", "-1"),
        ("HOMEPORT_START_POOL", "0"),
        ("ECS_RESERVED_PORTS", "22"),
        ("ECS_INSTANCE_ATTRIBUTES", "{"),
        ("ECS_INSTANCE_ATTRIBUTES", "[]"),
        ("ECS_IMAGE_PULL_BEHAVIOR", "never"),
        ("ECS_CONTAINER_STOP_TIMEOUT", "soon"),
        ("ECS_DYNAMIC_HOST_PORT_RANGE", "9-3"),
        ("ECS_EXTERNAL", "perhaps"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(variable, text):
    with pytest.raises(AgentSettingsError, match=variable):
        from_environment({**LEAST, variable: text})


@pytest.mark.parametrize(("text", "seconds"), [("3h", 10_800), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("7", 7), ("0", 0)])
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "3x", "-1s", "1s 2s", "1s2"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
