"""What follows from a failure: a rollback, or the end."""

from __future__ import annotations

import msgspec
import pytest

from homeport.model.change import RollBack, UpdateDeployment
from homeport.model.ecs import deployment as model
from homeport.planner.rollback import NOTHING_TO_GO_BACK_TO, Failure, failed
from homeport.planner.service import ServiceView
from homeport.planner.service_revision import new_revision
from homeport.testing import records

NOW = records.NOW + 60
FAILURE = Failure(told="tasks failed to start.", rollout="they failed", monitor="a monitor", status="because they failed", rollback=True)
DEPLOYMENT = records.deployment(service_deployment_status=model.IN_PROGRESS)


def view(*, back_to: str = "") -> ServiceView:
    service = records.service()
    revision = new_revision(service, records.task_definition(), revision_id=back_to, now=records.NOW) if back_to else None
    return ServiceView(service=service, deployments=(DEPLOYMENT,), tasks=(), rollback_to=revision)


@pytest.mark.parametrize(
    ("back_to", "fields", "failure", "rolls_back"),
    [
        ("9" * 19, {}, FAILURE, True),
        ("", {}, FAILURE, False),
        (DEPLOYMENT.target_id, {}, FAILURE, False),
        ("9" * 19, {"rollback_of": "8" * 19}, FAILURE, False),
        ("9" * 19, {}, msgspec.structs.replace(FAILURE, rollback=False), False),
    ],
    ids=["to another revision", "nothing to go back to", "it is that revision itself", "a rollback is not rolled back", "nobody asked for it"],
)
def test_only_a_deployment_that_is_no_rollback_goes_back_to_another_revision(back_to, fields, failure, rolls_back):
    deployment = msgspec.structs.replace(DEPLOYMENT, **fields)
    changes = failed(view(back_to=back_to), deployment, failure, undone=None, now=NOW)
    assert any(isinstance(change, RollBack) for change in changes) == rolls_back
    if not rolls_back:
        (update,) = [change.deployment for change in changes if isinstance(change, UpdateDeployment)]
        assert (update.rollout_state, update.progress) == (model.FAILED, model.STOPPED)
        assert (NOTHING_TO_GO_BACK_TO in update.status_reason) == (failure.rollback and not deployment.rollback_of)
