"""Reads the states of the alarms that deployments watch, and writes them down; `planner/alarm.py` says what they mean.

Owns: the reading (`AlarmSource` and its one implementation) and what was seen of alarms in the records of deployments. Never fails a deployment: the
deployment controller does, when it sees what is written here. It is no controller of the loop, since it asks something outside of the store.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from homeport import log
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError
from homeport.model.arn import parse_arn
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_deployment import configuration_of as daemon_configuration_of
from homeport.model.ecs.deployment import Deployment
from homeport.planner.alarm import AlarmState, observe, unreadable
from homeport.planner.deployment_configuration import configuration_of
from homeport.store.store import Store
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import DAEMON_DEPLOYMENTS, DEPLOYMENTS, SERVICES

ANSWER_SECONDS: Final = 5.0
"""How long a source may take to answer."""
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
WRITES_MAX: Final = 90
"""Deployments written in one transaction; under its 100 records."""

Watcher = tuple[str, str]
"""Table and key of a deployment."""

_log: Final = log.logger("controllers.alarm")


class AlarmSourceError(HomeportError):
    """The states of alarms could not be read."""

    temporary = True


class AlarmSource(Protocol):
    """Where the states of alarms come from."""

    async def states(self) -> Mapping[str, AlarmState]:
        """Every alarm, by name. Raises AlarmSourceError."""
        ...


class DocumentSource:
    """A JSON document behind an http(s) URL or in a file: what `aws cloudwatch describe-alarms` prints, or an object of name → state."""

    def __init__(self, where: str) -> None:
        self._where = where

    async def states(self) -> Mapping[str, AlarmState]:
        """As `AlarmSource`."""
        return alarm_states(await asyncio.to_thread(self._read))

    def _read(self) -> bytes:
        try:
            if not self._where.startswith(("http://", "https://")):
                return Path(self._where).read_bytes()
            with urllib.request.urlopen(self._where, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - http(s) only, and the operator's own setting
                return bytes(answer.read(ANSWER_BYTES_MAX))
        except (OSError, ValueError) as error:
            raise AlarmSourceError(f"{self._where} cannot be read: {error}") from None


def alarm_states(document: bytes) -> dict[str, AlarmState]:
    """The alarms in `document` by name, and by ACCOUNT/NAME as well where an ARN tells whose each is.

    Raises AlarmSourceError for what is neither of the two forms.
    """
    try:
        decoded = msgspec.json.decode(document)
        if isinstance(decoded, dict) and ("MetricAlarms" in decoded or "CompositeAlarms" in decoded):
            listed = [*(decoded.get("MetricAlarms") or ()), *(decoded.get("CompositeAlarms") or ())]
            return {name: AlarmState(item["StateValue"] == "ALARM", _seconds(item)) for item in listed for name in _names(item)}
        if isinstance(decoded, dict) and all(isinstance(value, str) for value in decoded.values()):
            return {name: AlarmState(value == "ALARM") for name, value in decoded.items()}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise AlarmSourceError(f"the answer is no list of alarms: {error}") from None
    raise AlarmSourceError("the answer is neither what describe-alarms prints nor an object of alarm names and states")


def _names(alarm: Mapping[str, Any]) -> list[str]:
    parsed = parse_arn(str(alarm.get("AlarmArn") or ""))
    return [alarm["AlarmName"], *((f"{parsed.account}/{alarm['AlarmName']}",) if parsed is not None and parsed.account else ())]


def _seconds(alarm: Mapping[str, Any]) -> float:
    return float(alarm.get("Period") or 0) * float(alarm.get("EvaluationPeriods") or 1)


async def keep_alarms(store: Store, clock: Clock, settings: Settings, *, source: AlarmSource, management: str = "") -> None:
    """Run until cancelled: read the alarms every `settings.alarm_poll_seconds` while a deployment watches some.

    Alarms of no account are those of the account `management`, or of every one when that is "".
    """
    while True:
        await clock.sleep(settings.alarm_poll_seconds)
        watching = await store.view_local(_watching)
        if not watching:
            continue
        try:
            states, trouble = await source.states(), ""
        except AlarmSourceError as error:
            states, trouble = {}, str(error)
            _log.warning("%s", error)
        for start in range(0, len(watching), WRITES_MAX):
            await _write(store, watching[start : start + WRITES_MAX], Alarms(states, management), trouble)


def _watching(reader: Reader) -> list[Watcher]:
    services = [(DEPLOYMENTS.name, item.key) for item in reader.find(DEPLOYMENTS, "alarms", deployment_model.MONITORING)]
    return services + [(DAEMON_DEPLOYMENTS.name, item.key) for item in reader.find(DAEMON_DEPLOYMENTS, "alarms", deployment_model.MONITORING)]


class Alarms(NamedTuple):
    """What was read, and whose it is."""

    states: Mapping[str, AlarmState]
    """By NAME, and by ACCOUNT/NAME where it is known whose alarm it is."""
    management: str

    def of(self, account: str, names: Iterable[str]) -> dict[str, AlarmState]:
        """Those of `names` that `account` may know."""
        found = {name: self.states[f"{account}/{name}"] for name in names if f"{account}/{name}" in self.states}
        if self.management in ("", account):
            found = {name: self.states[name] for name in names if name in self.states} | found
        return found


async def _write(store: Store, keys: Iterable[Watcher], read: Alarms, trouble: str) -> None:
    def write(tx: Transaction) -> None:
        for name, key in keys:
            table: Table[Any] = DEPLOYMENTS if name == DEPLOYMENTS.name else DAEMON_DEPLOYMENTS
            deployment = tx.get(table, key)
            names = watched_names(tx, deployment) if deployment else ()
            if deployment is None or not names:
                continue
            alarms = (
                unreadable(deployment.alarms, trouble)
                if trouble
                else observe(deployment.alarms, names, read.of(deployment.account, names), now=tx.now)
            )
            if alarms != deployment.alarms:
                tx.put(table, msgspec.structs.replace(deployment, alarms=alarms))

    try:
        await store.update(write, cause="controller/alarm")
    except HomeportError as error:
        _log.warning("what was read of alarms could not be kept and is read again: %s", error)


def watched_names(reader: Reader, deployment: Deployment | DaemonDeployment) -> tuple[str, ...]:
    """The alarms that `deployment` watches now; none when it is over."""
    if isinstance(deployment, DaemonDeployment):
        asked = daemon_configuration_of(deployment.configuration)
        return asked.alarm_names if asked.watches and deployment.alarms.status == deployment_model.MONITORING else ()
    service = reader.get(SERVICES, deployment.service_key)
    if service is None or deployment.alarms.status != deployment_model.MONITORING:
        return ()
    return configuration_of(service, deployment).alarms.alarm_names
