"""What routes a service's traffic, as the controllers of deployments see it.

Owns: `Traffic`, the interface, and `Unrouted`, which is all there is until something routes. Never decides a weight: `Deployment.weights` is what is
wanted (`planner/traffic_shift.py`), and whatever routes follows that record and says here what has come into effect.

A service without a load balancer or Service Connect is headless: nobody routes its traffic by weights, so what is wanted is all there is to tell.
"""

from __future__ import annotations

from typing import Protocol

from homeport.model.ecs.deployment import TrafficWeight
from homeport.model.ecs.service import Service
from homeport.store.table import Reader


class Traffic(Protocol):
    """Whatever routes."""

    def in_effect(self, reader: Reader, service: Service) -> tuple[TrafficWeight, ...] | None:
        """The weights by which the traffic of `service` goes now, without revisions that get none; None: nothing routes it.

        Reads records only, since it is asked inside of a transaction. What changes them has to mark the service: by a change of the service's or a
        deployment's record, or else it is noticed at the sweep.
        """
        ...


class Unrouted:
    """A `Traffic` for services that nothing routes to."""

    def in_effect(self, reader: Reader, service: Service) -> tuple[TrafficWeight, ...] | None:
        """None."""
        return None
