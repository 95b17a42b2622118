"""Homeport's own operations, in one list.

Owns: `OPERATIONS` (name → handler). Never holds logic.
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.homeport import account, capacity, explain, history, instance_identity, join_token, past, prediction, rule, rule_report

OPERATIONS: Final[dict[str, Handler]] = {
    "CloseAccount": account.close_account,
    "CreateAccount": account.create_account,
    "DeleteAccountQuota": account.delete_account_quota,
    "DescribeAccount": account.describe_account,
    "ListAccountQuotas": account.list_account_quotas,
    "ListAccounts": account.list_accounts,
    "PutAccountQuota": account.put_account_quota,
    "ReopenAccount": account.reopen_account,
    "DescribeAt": past.describe_at,
    "DescribeCapacity": capacity.describe_capacity,
    "DescribeHistory": history.describe_history,
    "PredictChanges": prediction.predict_changes,
    "PredictServiceUpdate": prediction.predict_service_update,
    "ExplainPlacement": explain.explain_placement,
    "PutRule": rule.put_rule,
    "DeleteRule": rule.delete_rule,
    "ListRules": rule.list_rules,
    "TestRules": rule_report.test_rules,
    # hosts
    "CreateJoinToken": join_token.create_join_token,
    "ListJoinTokens": join_token.list_join_tokens,
    "DeleteJoinToken": join_token.delete_join_token,
    "Join": instance_identity.join,
    "RenewInstanceCredentials": instance_identity.renew_instance_credentials,
    "DescribeInstanceIdentity": instance_identity.describe_instance_identity,
    "ListInstanceIdentities": instance_identity.list_instance_identities,
    "RevokeInstanceIdentity": instance_identity.revoke_instance_identity,
}
