"""When keys and roles were used last, as IAM tells it, on a real server and over its restart; and encoded messages of refusals."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

from tests.integration.test_iam import REGION, allowing, refused, serving, trusting

OFTEN = ("last_use_seconds=0.2",)


def last_used(iam: Any, key_id: str) -> tuple[str, str, str, float]:
    found = iam.get_access_key_last_used(AccessKeyId=key_id)
    used = found["AccessKeyLastUsed"]
    return found["UserName"], used["ServiceName"], used["Region"], used["LastUsedDate"].timestamp() if "LastUsedDate" in used else 0.0


def test_the_last_use_of_keys_and_roles_is_told_and_outlives_a_restart(tmp_path):
    store = f"sqlite:{tmp_path / 'state.sqlite'}"
    with serving(tmp_path, store=store, settings=OFTEN) as server:
        iam = server.client("iam")
        iam.create_user(UserName="ann")
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        idle = iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"]
        assert last_used(iam, key["AccessKeyId"]) == ("ann", "N/A", "N/A", 0.0)
        role = iam.create_role(RoleName="app", AssumeRolePolicyDocument=trusting({"AWS": server.account}))["Role"]["Arn"]
        assert iam.get_role(RoleName="app")["Role"]["RoleLastUsed"] == {}
        iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=allowing("sts:*"))
        began = time.time()
        sts = server.client("sts", key["AccessKeyId"], key["SecretAccessKey"])
        made = sts.assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
        server.client("sts", made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]).get_caller_identity()
        refused("AccessDeniedException", 400, server.client("ecs", key["AccessKeyId"], key["SecretAccessKey"]).list_clusters)
        name, service, region, at = last_used(iam, key["AccessKeyId"])
        assert (name, service, region) == ("ann", "ecs", REGION)
        assert began - 1 <= at <= time.time()
        assert iam.get_role(RoleName="app")["Role"]["RoleLastUsed"]["Region"] == REGION
        assert last_used(iam, server.key)[:2] == (server.account, "iam")
        refused("NoSuchEntity", 404, iam.get_access_key_last_used, AccessKeyId="AKIA0000000000000000")
        time.sleep(1)
    with serving(tmp_path, store=store, settings=OFTEN) as server:
        iam = server.client("iam")
        assert last_used(iam, key["AccessKeyId"]) == (name, service, region, at)
        assert last_used(iam, idle)[1] == "N/A"
        assert iam.get_role(RoleName="app")["Role"]["RoleLastUsed"]["Region"] == REGION
        iam.put_user_policy(
            UserName="ann", PolicyName="p", PolicyDocument=allowing("iam:GetAccessKeyLastUsed", "arn:aws:iam::*:user/${aws:username}")
        )
        ann = server.client("iam", key["AccessKeyId"], key["SecretAccessKey"])
        assert last_used(ann, idle)[0] == "ann"
        refused("AccessDenied", 403, ann.get_access_key_last_used, AccessKeyId=server.key)
        report = credential_report(iam)
        assert (report["ann"]["access_key_1_active"], report["ann"]["password_enabled"], report["ann"]["mfa_active"]) == ("true", "false", "false")
        assert {report["ann"][f"access_key_{number}_last_used_service"] for number in (1, 2)} == {"iam", "N/A"}
        assert report["<root_account>"]["access_key_1_active"] == "true"


def credential_report(iam: Any) -> dict[str, dict[str, str]]:
    assert iam.generate_credential_report()["State"] == "COMPLETE"
    found = iam.get_credential_report()
    assert found["ReportFormat"] == "text/csv"
    return {row["user"]: row for row in csv.DictReader(io.StringIO(found["Content"].decode()))}


def test_uses_are_written_rarely(tmp_path):
    with serving(tmp_path, settings=("last_use_seconds=1",)) as server:
        ecs = server.client("ecs")
        before, began = revision(server), time.monotonic()
        while time.monotonic() - began < 2.5:
            ecs.list_clusters()
        assert 1 <= revision(server) - before <= 3, "one write a second, however many calls"


def revision(server: Any) -> int:
    import urllib.request

    with urllib.request.urlopen(f"{server.url}/health", timeout=10) as answer:
        return int(json.loads(answer.read())["revision"])


def encoded(words: str) -> str:
    return words.partition("Encoded authorization failure message: ")[2]


def test_a_refusal_tells_who_may_decode_it_what_decided(tmp_path: Path):
    with serving(tmp_path, settings=("encoded_authorization_messages=true", "last_use_seconds=0")) as server:
        iam = server.client("iam")
        made = iam.create_user(UserName="bob")["User"]
        deny = {
            "Sid": "NoProd",
            "Effect": "Deny",
            "Action": "ecs:DeleteCluster",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        iam.put_user_policy(UserName="bob", PolicyName="rules", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
        bob = server.as_user("ecs", "bob")
        words = refused("AccessDeniedException", 400, bob.delete_cluster, cluster="prod")
        assert words.startswith(f"User: {made['Arn']} is not authorized to perform: ecs:DeleteCluster on resource: ")
        root = server.client("sts")
        told = json.loads(root.decode_authorization_message(EncodedMessage=encoded(words))["DecodedMessage"])
        assert (told["allowed"], told["explicitDeny"], told["policyType"]) == (False, True, "identity-based policy")
        assert told["matchedStatements"]["items"] == [{"statementId": "NoProd", "effect": "DENY", "sourcePolicyId": "rules"}]
        assert told["context"]["principal"] == {"id": made["UserId"], "name": "bob", "arn": made["Arn"]}
        assert (told["context"]["action"], told["context"]["resource"].rpartition(":")[2]) == ("ecs:DeleteCluster", "cluster/prod")
        keys = {each["key"]: [value["value"] for value in each["values"]["items"]] for each in told["context"]["conditions"]["items"]}
        assert (keys["aws:securetransport"], keys["aws:sourceip"]) == (["false"], ["127.0.0.1"])
        implicit = encoded(refused("AccessDeniedException", 400, bob.list_clusters))
        told = json.loads(root.decode_authorization_message(EncodedMessage=implicit)["DecodedMessage"])
        assert (told["explicitDeny"], told["matchedStatements"]["items"]) == (False, [])
        sts = server.as_user("sts", "bob")
        refused("AccessDenied", 403, sts.decode_authorization_message, EncodedMessage=implicit)
        iam.put_user_policy(UserName="bob", PolicyName="rules", PolicyDocument=allowing("sts:DecodeAuthorizationMessage"))
        assert sts.decode_authorization_message(EncodedMessage=implicit)
        flipped = implicit[:-3] + ("A" if implicit[-3] != "A" else "B") + implicit[-2:]
        for wrong in (flipped, implicit[:-8], implicit[4:], "x", "A" * 200, "ü", "AQ" + "A" * 200):
            refused("InvalidAuthorizationMessageException", 400, root.decode_authorization_message, EncodedMessage=wrong)
