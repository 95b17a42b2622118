"""An account setting: a switch of the account, or of one principal in it.

Owns: `AccountSetting`, the names with their values, and what a setting is when nobody set it. Never decides whose setting counts.
Source: ecs-reference 3.20 and the operations' documentation.
"""

from __future__ import annotations

from typing import Final

from homeport.model.record import Instant, Record

CONTAINER_INSIGHTS: Final = "containerInsights"

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "serviceLongArnFormat": ("enabled",),
    "taskLongArnFormat": ("enabled",),
    "containerInstanceLongArnFormat": ("enabled",),
    "awsvpcTrunking": ("disabled", "enabled"),
    CONTAINER_INSIGHTS: ("disabled", "enabled", "enhanced"),
    "fargateFIPSMode": ("disabled", "enabled"),
    "tagResourceAuthorization": ("off", "on"),
    "fargateTaskRetirementWaitPeriod": ("7", "0", "14"),
    "guardDutyActivate": ("off",),
    "defaultLogDriverMode": ("non-blocking", "blocking"),
    "fargateEventWindows": ("disabled", "enabled"),
}
"""Name → its values, the one that counts when nobody set it in front. The long formats of ARNs cannot be switched off any more."""
AWS_MANAGED: Final = ("guardDutyActivate",)
"""Settings that no caller may change."""

ROOT_ONLY: Final = ("fargateTaskRetirementWaitPeriod",)
"""Settings that only the root user may change, for the whole account."""


class AccountSetting(Record, frozen=True, kw_only=True):
    """What somebody set. Its key is ACCOUNT/NAME/PRINCIPAL_ARN; what the root user has is the default of the whole account."""

    account: str
    name: str
    principal_arn: str
    value: str
    set_at: Instant

    @property
    def key(self) -> str:
        """ACCOUNT/NAME/PRINCIPAL_ARN."""
        return f"{self.account}/{self.name}/{self.principal_arn}"
