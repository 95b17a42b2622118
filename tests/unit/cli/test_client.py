"""The command line's client: which of Homeport's own operations it knows."""

from __future__ import annotations

from homeport.api.homeport.operations import OPERATIONS
from homeport.api.server import UNSIGNED
from homeport.cli.client import OWN_OPERATIONS


def test_every_operation_of_homeport_s_own_goes_out_under_its_own_target():
    unsigned = {name for service, name in UNSIGNED if service == "homeport"}
    assert set(OWN_OPERATIONS) == set(OPERATIONS) - unsigned
