"""What every test may use: a Docker that answers and has the test image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.busybox_image import engine_with_image

from homeport.cli.containers import DockerSocket

settings.register_profile("homeport", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine makes no example wrong; a failing one can be replayed from what is printed."""
settings.load_profile("homeport")


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerSocket]:
    """Docker with the image homeport-test:latest; one that had to be started for the tests is stopped after them."""
    with engine_with_image(tmp_path_factory.mktemp("docker")) as docker:
        yield docker
