"""Which digests a service revision is held to."""

from __future__ import annotations

import msgspec

from homeport.model.ecs.service_revision import RevisionContainer
from homeport.planner.service_revision import new_revision
from homeport.planner.version_consistency import NO_DIGEST, digests_of, needs_digests, pinned
from homeport.testing import records

NOW = records.NOW + 5
DIGEST = "sha256:" + "a" * 64


def revision(**container):
    made = new_revision(records.service(), records.task_definition(), revision_id="1" * 19, now=records.NOW)
    return msgspec.structs.replace(made, containers=(msgspec.structs.replace(made.containers[0], **container),))


def task(number, digest, **fields):
    container = msgspec.structs.replace(records.task().containers[0], image_digest=digest)
    return records.task(number, containers=(container,), **fields)


def test_the_first_running_task_tells():
    tasks = [task(2, "sha256:late", started_at=NOW + 1), task(1, DIGEST), task(3, "sha256:pending", last_status="PENDING", started_at=0.0)]
    found = pinned(revision(), tasks, NOW)
    assert (digests_of(found), found.pinned_at) == ({"app": DIGEST}, NOW)
    assert pinned(found, tasks, NOW + 1) is None


def test_nothing_is_known_before_a_task_of_the_revision_runs():
    other = task(1, DIGEST, deployment_id="9" * 19)
    assert pinned(revision(), [other, task(2, DIGEST, last_status="PENDING")], NOW) is None


def test_a_container_that_opted_out_is_left_alone():
    assert not needs_digests(revision(consistent=False))
    assert pinned(revision(consistent=False), [task(1, DIGEST)], NOW) is None


def test_one_container_may_opt_out_beside_another_that_is_held_to_its_image():
    made = revision()
    sidecar = RevisionContainer(name="sidecar", image="side:1", consistent=False)
    made = msgspec.structs.replace(made, containers=(*made.containers, sidecar))
    told = task(1, DIGEST)
    told = msgspec.structs.replace(told, containers=(*told.containers, msgspec.structs.replace(told.containers[0], name="sidecar")))
    found = pinned(made, [told], NOW)
    assert digests_of(found) == {"app": DIGEST}
    assert found.containers[1] == sidecar


def test_an_image_without_a_registry_s_digest_is_not_pinned_and_says_so():
    found = pinned(revision(), [task(1, "")], NOW)
    assert found.containers == (RevisionContainer(name="app", image="app:1", note=NO_DIGEST),)
    assert (digests_of(found), needs_digests(found)) == ({}, False)


def test_a_definition_s_versionConsistency_is_kept():
    document = records.document(containerDefinitions=[{"name": "a", "image": "a:1", "versionConsistency": "disabled"}, {"name": "b", "image": "b:1"}])
    made = new_revision(records.service(), records.task_definition(document=document), revision_id="1" * 19, now=NOW)
    assert [(item.name, item.consistent) for item in made.containers] == [("a", False), ("b", True)]
