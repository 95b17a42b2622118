"""Account settings: whose counts, what may be set, pages, and what they do."""

from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ROOT, Ecs

from homeport.errors import InvalidParameterError

USER = f"arn:aws:iam::{ACCOUNT}:user/ann"


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def effective(ecs, name, principal=ROOT):
    (setting,) = (await ecs("ListAccountSettings", name=name, principalArn=principal, effectiveSettings=True))["settings"]
    return setting["value"]


async def test_a_setting_is_given_back_as_it_was_put(ecs):
    answer = await ecs("PutAccountSetting", name="awsvpcTrunking", value="enabled")
    assert answer == {"setting": {"name": "awsvpcTrunking", "value": "enabled", "principalArn": ROOT, "type": "user"}}
    assert (await ecs("ListAccountSettings"))["settings"] == [answer["setting"]]


async def test_the_principal_s_own_comes_before_the_account_s_and_that_before_ecs_s(ecs):
    assert await effective(ecs, "tagResourceAuthorization", USER) == "off"
    await ecs("PutAccountSettingDefault", name="tagResourceAuthorization", value="on")
    assert await effective(ecs, "tagResourceAuthorization", USER) == "on"
    await ecs("PutAccountSetting", name="tagResourceAuthorization", value="off", principalArn=USER)
    assert await effective(ecs, "tagResourceAuthorization", USER) == "off"
    assert await effective(ecs, "tagResourceAuthorization") == "on"
    deleted = await ecs("DeleteAccountSetting", name="tagResourceAuthorization", principalArn=USER)
    assert deleted["setting"] == {"name": "tagResourceAuthorization", "value": "on", "principalArn": USER, "type": "user"}
    assert (await ecs("ListAccountSettings", principalArn=USER))["settings"] == []


async def test_effective_settings_come_in_pages_of_ten(ecs):
    first = await ecs("ListAccountSettings", effectiveSettings=True)
    assert len(first["settings"]) == 10
    second = await ecs("ListAccountSettings", effectiveSettings=True, nextToken=first["nextToken"])
    assert [setting["name"] for setting in second["settings"]] == ["taskLongArnFormat"]
    assert "nextToken" not in second


async def test_a_filter_by_value_goes_with_a_name(ecs):
    await ecs("PutAccountSetting", name="containerInsights", value="enhanced")
    assert len((await ecs("ListAccountSettings", name="containerInsights", value="enhanced"))["settings"]) == 1
    assert (await ecs("ListAccountSettings", name="containerInsights", value="enabled"))["settings"] == []
    with pytest.raises(InvalidParameterError, match="You must specify a setting name"):
        await ecs("ListAccountSettings", value="enabled")


@pytest.mark.parametrize(
    "members",
    [
        {"name": "containerInsights", "value": "sometimes"},
        {"name": "taskLongArnFormat", "value": "disabled"},
        {"name": "guardDutyActivate", "value": "on"},
        {"name": "awsvpcTrunking", "value": "enabled", "principalArn": "ann"},
        {"name": "awsvpcTrunking", "value": "enabled", "principalArn": "arn:aws:iam::999999999999:user/ann"},
    ],
)
async def test_what_cannot_be_set_is_refused_and_changes_nothing(ecs, members):
    with pytest.raises(InvalidParameterError):
        await ecs("PutAccountSetting", **members)
    assert (await ecs("ListAccountSettings"))["settings"] == []


async def test_new_clusters_begin_with_the_account_s_container_insights(ecs):
    await ecs("PutAccountSettingDefault", name="containerInsights", value="enhanced")
    made = await ecs("CreateCluster", clusterName="a")
    assert made["cluster"]["settings"] == [{"name": "containerInsights", "value": "enhanced"}]
    own = await ecs("CreateCluster", clusterName="b", settings=[{"name": "containerInsights", "value": "disabled"}])
    assert own["cluster"]["settings"] == [{"name": "containerInsights", "value": "disabled"}]


async def test_only_the_root_user_speaks_for_others_and_for_the_account(ecs, context):
    ann = Ecs(context, principal_arn=USER)
    assert (await ann("PutAccountSetting", name="awsvpcTrunking", value="enabled"))["setting"]["principalArn"] == USER
    for operation, members in (
        ("PutAccountSetting", {"name": "awsvpcTrunking", "value": "disabled", "principalArn": ROOT}),
        ("DeleteAccountSetting", {"name": "awsvpcTrunking", "principalArn": f"{USER}-too"}),
        ("ListAccountSettings", {"principalArn": ROOT}),
        ("PutAccountSetting", {"name": "fargateTaskRetirementWaitPeriod", "value": "14"}),
    ):
        with pytest.raises(InvalidParameterError, match="Only the root user"):
            await ann(operation, **members)
    assert (await ecs("ListAccountSettings"))["settings"] == []
    await ecs("PutAccountSetting", name="fargateTaskRetirementWaitPeriod", value="14")
    assert await effective(ecs, "fargateTaskRetirementWaitPeriod", USER) == "14"
