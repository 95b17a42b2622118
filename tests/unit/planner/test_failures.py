"""What the end of a task counts as, and when (ecs-reference 3.8, 3.9), as a table."""

from __future__ import annotations

import pytest

from homeport.model.ecs.task import Container
from homeport.planner.failures import moments
from homeport.testing import records

START = records.NOW
EXITED = (Container(name="app", id="c", image="a", status="STOPPED", exit_code=1),)
KILLED = (Container(name="app", id="c", image="a", status="STOPPED", exit_code=137),)


@pytest.mark.parametrize(
    ("code", "stopping", "stopped", "more", "kind", "at"),
    [
        ("EssentialContainerExited", 5, 5, {}, "crashed", 5),
        # Its side car took two minutes to stop: it ended when it stopped working, which was soon.
        ("EssentialContainerExited", 5, 125, {}, "crashed", 5),
        ("EssentialContainerExited", 5, 0, {}, "crashed", 5),
        ("EssentialContainerExited", 3600, 3725, {}, "failed", 3600),
        ("EssentialContainerExited", 3600, 0, {}, "failed", 3600),
        ("EssentialContainerExited", 5, 5, {"containers": KILLED}, "failed", 5),
        ("EssentialContainerExited", 3600, 3600, {"healthy_since": START + 60}, "ordered", 3600),
        ("TaskFailedToStart", 7, 9, {"started_at": 0.0}, "failed-to-start", 7),
        ("ServiceSchedulerInitiated", 60, 90, {"stopped_reason": "Task failed container health checks"}, "failed", 90),
        ("ServiceSchedulerInitiated", 60, 90, {"stopped_reason": "Scaling activity"}, "ordered", 90),
        ("UserInitiated", 60, 90, {}, "ordered", 90),
        ("InfrastructureHealth", 60, 60, {"containers": KILLED}, "lost", 60),
        ("TerminationNotice", 60, 60, {"containers": KILLED}, "lost", 60),
    ],
)
def test_what_the_end_of_a_task_is_and_when_it_counts(code, stopping, stopped, more, kind, at):
    fields = {"containers": EXITED, **more}
    task = records.task(
        1,
        deployment_id=records.deployment().target_id,
        desired_status="STOPPED",
        last_status="STOPPED" if stopped else "STOPPING",
        stop_code=code,
        stopping_at=START + stopping,
        stopped_at=START + stopped if stopped else 0.0,
        **fields,
    )
    live, ended = ([], [task]) if stopped else ([task], [])
    found = list(moments(records.deployment(ends_counted_at=START), live, ended, healthy_after_seconds=1e9, now=START + 1e5))
    assert [(moment.kind, moment.at - START) for moment in found if moment.kind not in ("ran", "healthy")] == [(kind, at)]
    later = records.deployment(ends_counted_at=START + at)
    assert not [moment for moment in moments(later, live, ended, healthy_after_seconds=1e9, now=START + 1e5) if moment.rank == 2]
