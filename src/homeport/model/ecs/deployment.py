"""A deployment: one service revision on its way to, or at, the service's desired count.

Owns: `Deployment`, its three states (status, rollout state, service deployment status), what its monitors, hooks and traffic have come to.
Never counts tasks; never says what a revision consists of (`service_revision.py`).

One record is shown in two forms: as an entry of `deployments[]`, with `status` and `rollout_state`, and as a service deployment. A rollback is a
deployment of its own, of an older revision; it is shown among `deployments[]` only, while the service deployment that it undoes tells of it.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record

PRIMARY: Final = "PRIMARY"
ACTIVE: Final = "ACTIVE"
INACTIVE: Final = "INACTIVE"

IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"

PENDING: Final = "PENDING"
STOP_REQUESTED: Final = "STOP_REQUESTED"
STOPPED: Final = "STOPPED"
ROLLBACK_REQUESTED: Final = "ROLLBACK_REQUESTED"
ROLLBACK_IN_PROGRESS: Final = "ROLLBACK_IN_PROGRESS"
ROLLBACK_SUCCESSFUL: Final = "ROLLBACK_SUCCESSFUL"
ROLLBACK_FAILED: Final = "ROLLBACK_FAILED"
SUCCESSFUL: Final = "SUCCESSFUL"

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset((IN_PROGRESS, STOP_REQUESTED, STOPPED, ROLLBACK_REQUESTED, ROLLBACK_IN_PROGRESS)),
    IN_PROGRESS: frozenset((SUCCESSFUL, STOP_REQUESTED, STOPPED, ROLLBACK_REQUESTED, ROLLBACK_IN_PROGRESS)),
    STOP_REQUESTED: frozenset((STOPPED,)),
    ROLLBACK_REQUESTED: frozenset((ROLLBACK_IN_PROGRESS, ROLLBACK_FAILED, STOPPED)),
    ROLLBACK_IN_PROGRESS: frozenset((ROLLBACK_SUCCESSFUL, ROLLBACK_FAILED)),
    SUCCESSFUL: frozenset(),
    STOPPED: frozenset(),
    ROLLBACK_SUCCESSFUL: frozenset(),
    ROLLBACK_FAILED: frozenset(),
}
"""Where the status of a service deployment may go (ecs-reference 3.9). A monitor that fails goes to ROLLBACK_IN_PROGRESS or STOPPED in one commit."""
TERMINAL: Final = frozenset(status for status, following in TRANSITIONS.items() if not following)

ROLLING: Final = "ROLLING"
BLUE_GREEN: Final = "BLUE_GREEN"
LINEAR: Final = "LINEAR"
CANARY: Final = "CANARY"

RECONCILE_SERVICE: Final = "RECONCILE_SERVICE"
PRE_SCALE_UP: Final = "PRE_SCALE_UP"
SCALE_UP: Final = "SCALE_UP"
POST_SCALE_UP: Final = "POST_SCALE_UP"
TEST_TRAFFIC_SHIFT: Final = "TEST_TRAFFIC_SHIFT"
POST_TEST_TRAFFIC_SHIFT: Final = "POST_TEST_TRAFFIC_SHIFT"
PRE_PRODUCTION_TRAFFIC_SHIFT: Final = "PRE_PRODUCTION_TRAFFIC_SHIFT"
PRODUCTION_TRAFFIC_SHIFT: Final = "PRODUCTION_TRAFFIC_SHIFT"
POST_PRODUCTION_TRAFFIC_SHIFT: Final = "POST_PRODUCTION_TRAFFIC_SHIFT"
BAKE_TIME: Final = "BAKE_TIME"
CLEAN_UP: Final = "CLEAN_UP"

LIFECYCLE: Final[dict[str, frozenset[str]]] = {
    "": frozenset((RECONCILE_SERVICE, PRE_SCALE_UP, SCALE_UP)),
    RECONCILE_SERVICE: frozenset((PRE_SCALE_UP,)),
    PRE_SCALE_UP: frozenset((SCALE_UP,)),
    SCALE_UP: frozenset((POST_SCALE_UP, PRODUCTION_TRAFFIC_SHIFT, TEST_TRAFFIC_SHIFT, CLEAN_UP)),
    POST_SCALE_UP: frozenset((TEST_TRAFFIC_SHIFT,)),
    TEST_TRAFFIC_SHIFT: frozenset((POST_TEST_TRAFFIC_SHIFT, CLEAN_UP)),
    POST_TEST_TRAFFIC_SHIFT: frozenset((PRE_PRODUCTION_TRAFFIC_SHIFT,)),
    PRE_PRODUCTION_TRAFFIC_SHIFT: frozenset((PRODUCTION_TRAFFIC_SHIFT,)),
    PRODUCTION_TRAFFIC_SHIFT: frozenset((PRE_PRODUCTION_TRAFFIC_SHIFT, POST_PRODUCTION_TRAFFIC_SHIFT, TEST_TRAFFIC_SHIFT, CLEAN_UP)),
    POST_PRODUCTION_TRAFFIC_SHIFT: frozenset((BAKE_TIME,)),
    BAKE_TIME: frozenset((CLEAN_UP,)),
    CLEAN_UP: frozenset(),
}
"""Where the lifecycle stage of a deployment may go, forward and, in a rollback, straight from SCALE_UP to what of the traffic is to be shifted back
(`planner/traffic_shift.py` says which of them when). "": it has not begun, or is a rolling one without hooks."""
BEFORE_GREEN: Final = frozenset(("", RECONCILE_SERVICE, PRE_SCALE_UP))
"""Stages in which a strategy that shifts traffic has not started a task of what it deploys."""
AWAITING_ACTION: Final = "AWAITING_ACTION"
SUCCEEDED: Final = "SUCCEEDED"
TIMED_OUT: Final = "TIMED_OUT"
PAUSE: Final = "PAUSE"
AWS_LAMBDA: Final = "AWS_LAMBDA"
CONTINUE: Final = "CONTINUE"
ROLLBACK: Final = "ROLLBACK"

DISABLED: Final = "DISABLED"
MONITORING: Final = "MONITORING"
MONITORING_COMPLETE: Final = "MONITORING_COMPLETE"
TRIGGERED: Final = "TRIGGERED"


class CircuitBreaker(Record, frozen=True, kw_only=True):
    """What the circuit breaker of a deployment has come to."""

    status: str = DISABLED
    """DISABLED, MONITORING, MONITORING_COMPLETE or TRIGGERED."""
    failure_count: int = 0
    threshold: int = 0
    """From how many failures on it trips; 0 while it is DISABLED."""
    ran: bool = False
    """Whether a task that the deployment started has been RUNNING: launches that fail are not counted from then on."""


class AlarmMonitor(Record, frozen=True, kw_only=True):
    """What the alarms of a deployment have come to. `in_alarm` and `seen_at` are what was read of them, the rest is what follows."""

    status: str = DISABLED
    """As `CircuitBreaker.status`."""
    ignored: bool = False
    """Whether one was in ALARM at the start, so that none counts for this deployment."""
    triggered: tuple[str, ...] = ()
    """Names of the alarms that made the deployment fail."""
    in_alarm: tuple[str, ...] = ()
    """Names of those in ALARM when they were last read."""
    seen_at: Instant = 0.0
    """When they were first read; 0.0: not yet."""
    trouble: str = ""
    """Why they could not be read the last time, or ""."""
    period_seconds: float = 0.0
    """The longest time that one of them looks back over; what the bake time of a rolling deployment follows."""


class Rollback(Record, frozen=True, kw_only=True):
    """Why and to what a deployment is rolled back."""

    reason: str
    started_at: Instant
    service_revision_id: str
    """Digits of the revision that is deployed instead."""
    deployment_id: str = ""
    """Digits of the deployment that does it; "" in records of versions that did not keep it."""


class StageChange(Record, frozen=True, kw_only=True):
    """That a deployment came to a lifecycle stage."""

    stage: str
    at: Instant


class LifecycleHook(Record, frozen=True, kw_only=True):
    """One run of one lifecycle hook at one stage."""

    id: str
    """`hookId` and execution id: the same however often its target is called."""
    target_type: str
    """AWS_LAMBDA or PAUSE."""
    target: str
    """`hookTargetArn`, or "" for PAUSE."""
    stage: str
    status: str
    """AWAITING_ACTION, IN_PROGRESS, SUCCEEDED, FAILED or TIMED_OUT."""
    expires_at: Instant
    timeout_action: str
    """CONTINUE or ROLLBACK."""
    call_at: Instant = 0.0
    """When it is to be called next; 0.0: it is not."""
    task_id: str = ""
    """The one-off task that runs it, where its target is a task definition."""
    details: bytes = b""
    """JSON of `hookDetails` for the next call."""
    reason: str = ""
    """Why its status is what it is, or what went wrong with the last call."""
    started_at: Instant = 0.0
    step: int = 0
    """`Deployment.step` at its stage, which a strategy with several steps comes to several times."""
    attempts: int = 0
    """Calls in a row that got no answer at all."""

    @property
    def open(self) -> bool:
        """Whether something is still to come of it."""
        return self.status in (AWAITING_ACTION, IN_PROGRESS)


class TrafficWeight(Record, frozen=True, kw_only=True):
    """What part of the traffic a service revision is to get, in percent."""

    service_revision_id: str
    production: float = 0.0
    test: float = 0.0


class Deployment(Record, frozen=True, kw_only=True):
    """A deployment. Its key is SERVICE_KEY/ID.

    `deployments[].id` is `ecs-svc/` and the digits of its service revision, which are ID itself except in a rollback.
    """

    account: str
    cluster: str
    service: str
    id: str
    """19 digits."""
    status: str
    """PRIMARY (the newest), ACTIVE (being drained), INACTIVE (over; no longer shown)."""
    family: str
    revision: int
    created_at: Instant
    updated_at: Instant
    launch_type: str
    rollout_state: str = IN_PROGRESS
    rollout_state_reason: str = ""
    failed_tasks: int = 0
    """Consecutive tasks that stopped before they were healthy; 0 again when one is healthy."""
    failures_to_start: int = 0
    """Consecutive tasks that stopped without ever RUNNING; drives the launch throttle."""
    throttled_until: Instant = 0.0
    """No task is started before this instant."""
    impaired: bool = False
    """Whether the event "unable to consistently start tasks" was written for this episode."""
    ends_counted_at: Instant = 0.0
    """Ends of tasks up to this instant are in the counters; a later end is counted once, by `planner/deployment.py`."""
    failure_round_at: Instant = 0.0
    """When `failures_to_start` last grew. Tasks made before this instant belong to the same round and do not make it grow again."""
    finished_at: Instant = 0.0
    """When its rollout ended: completed, failed, or superseded while in progress; 0.0 until then."""
    crashes: int = 0
    """Consecutive rounds of tasks that ran and ended by themselves at once; drives the crash brake."""
    source_id: str = ""
    """Digits of the deployment that was PRIMARY before it, or ""."""
    service_revision_id: str = ""
    """Digits of the service revision that it deploys; "": those of `id`. Read it as `target_id`."""
    service_deployment_status: str = ""
    """Where it stands as a service deployment (`TRANSITIONS`); "" in records of versions that had none: read it as `progress`."""
    status_reason: str = ""
    """Why `service_deployment_status` is what it is, or ""."""
    started_at: Instant = 0.0
    """When it left PENDING."""
    configuration: bytes = b""
    """JSON of the `deploymentConfiguration` in force; follows the service's until the deployment has ended. b"": the service's."""
    source_revision_ids: tuple[str, ...] = ()
    """Digits of the service revisions that had tasks when it began."""
    rollback: Rollback | None = None
    """Set when it is being, or was, rolled back."""
    rollback_of: str = ""
    """Digits of the deployment that this one undoes, or ""."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    alarms: AlarmMonitor = AlarmMonitor()
    strategy: str = ROLLING
    bake_started_at: Instant = 0.0
    """When its bake time, or that of its present step of traffic, began; 0.0: not yet."""
    lifecycle_stage: str = ""
    """The stage that it is at (`LIFECYCLE`); "" before the first, and in a rolling one without hooks."""
    stage_changes: tuple[StageChange, ...] = ()
    """The stages that it came to, in order."""
    hooks: tuple[LifecycleHook, ...] = ()
    """The runs of lifecycle hooks so far, in order."""
    weights: tuple[TrafficWeight, ...] = ()
    """What part of the traffic each revision is to get."""
    step: int = 0
    """How many steps of production traffic were taken."""
    blue_revision_id: str = ""
    """Digits of the service revision that had the production traffic when it began, which stays as it is until CLEAN_UP; "": none had."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE/ID."""
        return f"{self.account}/{self.cluster}/{self.service}/{self.id}"

    @property
    def target_id(self) -> str:
        """Digits of the service revision that it deploys; what its tasks have as `deployment_id`."""
        return self.service_revision_id or self.id

    @property
    def shown_id(self) -> str:
        """`deployments[].id`: `ecs-svc/DIGITS`."""
        return f"ecs-svc/{self.target_id}"

    @property
    def progress(self) -> str:
        """Where it stands as a service deployment, also in a record that older versions wrote."""
        if self.service_deployment_status:
            return self.service_deployment_status
        if self.rollout_state == COMPLETED:
            return SUCCESSFUL
        return IN_PROGRESS if self.rollout_state == IN_PROGRESS and self.status == PRIMARY else STOPPED

    @property
    def service_key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE."""
        return f"{self.account}/{self.cluster}/{self.service}"
