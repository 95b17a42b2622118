"""`homeport account`: the accounts of the installation, their quotas, and the first key of a new one.

Owns: how they are asked for and shown, and the file in which a new account's key is kept when that is wanted. Never decides who may: the API does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from homeport.cli.arguments import DEFAULT
from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.moment import instant_text
from homeport.cli.terminal import CommandError, Terminal, table


def account(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport account create | list | close | reopen | quota`."""
    credentials = DataDirectory(options.data_dir).credentials_of(environ)
    _ACTIONS[options.action](Api(credentials, terminal.clock), credentials, options, terminal)
    return 0


def _create(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    given = {"AccountName": options.name, "AccountId": options.account_id, "RoleName": options.role_name}
    told = api.call("CreateAccount", **{member: value for member, value in given.items() if value})
    status, key = told["CreateAccountStatus"], told["AccessKey"]
    if options.keep:
        own = LocalCredentials(
            endpoint=credentials.endpoint,
            endpoints=credentials.endpoints,
            access_key_id=key["AccessKeyId"],
            secret_access_key=key["SecretAccessKey"],
            region=credentials.region,
            account_id=status["AccountId"],
            installation_id=credentials.installation_id,
            account_name=status["AccountName"],
            ca_file=credentials.ca_file,
        )
        DataDirectory(options.data_dir).keep_account(own)
    if options.json:
        terminal.show(json.dumps({"AccountId": status["AccountId"], "AccountName": status["AccountName"], **key}, indent=2))
        return
    facts = (
        ("account id", status["AccountId"]),
        ("access key id", key["AccessKeyId"]),
        ("secret access key", key["SecretAccessKey"]),
    )
    terminal.show("\n".join(f"{name:<18} {value}" for name, value in facts))
    kept = f"kept for `homeport env --account {status['AccountName']}`" if options.keep else "not shown again"
    terminal.say(f"This is the key of the root of {status['AccountName']}; it may do everything in that account and is {kept}.")


def _list(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    del credentials
    found = _accounts(api)
    if options.json:
        terminal.show(json.dumps(found, indent=2))
        return
    rows = [(item["Id"], item["Name"], item["Status"], instant_text(item["JoinedTimestamp"])) for item in found]
    terminal.show("\n".join(table(("ACCOUNT", "NAME", "STATUS", "SINCE"), rows)))


def _close(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    del credentials
    found = _named(api, options.account)
    api.call("CloseAccount", AccountId=found["Id"])
    terminal.say(f"the account {found['Name']} ({found['Id']}) is closed: its keys are refused, what it has stays")


def _reopen(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    del credentials
    found = _named(api, options.account)
    api.call("ReopenAccount", AccountId=found["Id"])
    terminal.say(f"the account {found['Name']} ({found['Id']}) is active")


def _quota(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    """Every quota of an account, one of them, or another value of one."""
    del credentials
    account_id = _named(api, options.account)["Id"]
    if options.value == DEFAULT:
        api.call("DeleteAccountQuota", AccountId=account_id, QuotaName=options.quota)
    elif options.value is not None:
        api.call("PutAccountQuota", AccountId=account_id, QuotaName=options.quota, Value=int(options.value))
    quotas = api.call("ListAccountQuotas", AccountId=account_id)["Quotas"]
    found = [quota for quota in quotas if options.quota in (None, quota["QuotaName"])]
    if not found:
        raise CommandError(f"{options.quota} is no quota; these are: {', '.join(quota['QuotaName'] for quota in quotas)}")
    if options.json:
        terminal.show(json.dumps(found, indent=2))
        return
    rows = [(quota["QuotaName"], str(quota["Value"]), str(quota["DefaultValue"])) for quota in found]
    terminal.show("\n".join(table(("QUOTA", "VALUE", "OF THE INSTALLATION"), rows)))


def _accounts(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        answer = api.call("ListAccounts", **token)
        found += answer["Accounts"]
        if not answer.get("NextToken"):
            return found
        token = {"NextToken": answer["NextToken"]}


def _named(api: Api, text: str) -> dict[str, Any]:
    """The account of that id or name. Raises CommandError when there is none."""
    for item in _accounts(api):
        if text == item["Id"] or text.lower() == item["Name"].lower():
            return item
    raise CommandError(f"there is no account {text}; `homeport account list` shows them")


_ACTIONS: Final[dict[str, Callable[[Api, LocalCredentials, argparse.Namespace, Terminal], None]]] = {
    "create": _create,
    "list": _list,
    "close": _close,
    "reopen": _reopen,
    "quota": _quota,
}
