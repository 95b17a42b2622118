"""What can be typed after `homeport`: the commands and their options.

Owns: the parser. Never acts on what it parsed.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from homeport.cli.installation import default_data_dir
from homeport.cli.moment import Moment, parse_moment

DEFAULT_PORT: Final = 8470
DEFAULT: Final = "default"
"""In the place of a quota's value: the installation's counts again."""
SERVER: Final = "server"
"""Name of the one server of an installation that has no more."""
LISTED_KINDS: Final = (
    "clusters",
    "services",
    "task-sets",
    "tasks",
    "instances",
    "task-definitions",
    "daemons",
    "daemon-task-definitions",
    "capacity-providers",
    "gateways",
    "express-gateway-services",
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The typed command. Ends the program with status 2 and a message if it makes no sense."""
    parser = argparse.ArgumentParser(prog="homeport", description="An open, self-hosted Amazon ECS.")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _up(commands.add_parser("up", help="start the control plane and this machine's agent"))
    _env(commands.add_parser("env", help="print what the aws CLI and the SDKs need, for eval"))
    _account(commands.add_parser("account", help="make, list and close accounts (teams), and set their quotas"))
    _status(commands.add_parser("status", help="show instances, services, tasks and the last events"))
    _down(commands.add_parser("down", help="stop the programs; tasks run on unless --tasks is given"))
    _logs(commands.add_parser("logs", help="show what a task printed"))
    _list(commands.add_parser("list", help="list clusters, services, tasks, instances, task definitions or capacity providers, now or as they were"))
    _describe(commands.add_parser("describe", help="show a resource, now or as it was"))
    _history(commands.add_parser("history", help="who changed a resource, when, what and why"))
    _history(
        commands.add_parser("explain", help="why a service's next task, or a task, fits nowhere, and the smallest change that would make it fit")
    )
    _what_if(commands.add_parser("what-if", help="where tasks would run if instances came, went or drained, or services wanted other counts"))
    _plan(commands.add_parser("plan", help="the steps that an update of a service would bring; nothing is changed"))
    _rule(commands.add_parser("rule", help="what must hold of tasks, services and task definitions, and who violates it"))
    _server(commands.add_parser("server", help="run the control plane alone"))
    _agent(commands.add_parser("agent", help="run the agent alone"))
    _token(commands.add_parser("token", help="join tokens, with which other machines become hosts"))
    _instance(commands.add_parser("instance", help="the hosts that joined, and the end of one's credentials"))
    _journal(commands.add_parser("journal", help="prove that the journal of changes is whole"))
    _audit(commands.add_parser("audit", help="prove that the log of all calls is whole, export it, tell its key"))
    _store(commands.add_parser("store", help="copy the state of a stopped installation to another store"))
    _backup(commands.add_parser("backup", help="write the state to a file, while the server runs or not"))
    _restore(commands.add_parser("restore", help="put a backup in the place of the state of a stopped installation"))
    _certificates(commands.add_parser("tls", help="show certificates, issue one, replace the authority"))
    _key(commands.add_parser("key", help="the root key that secrets are sealed with: make, show, rotate, forget old ones"))
    _prepare(commands.add_parser("prepare", help="only install and start what `up` needs (Docker)"))
    _simulate(commands.add_parser("simulate", help="join a server with thousands of simulated instances, to try how far it goes"))
    parsed = parser.parse_args(arguments)
    if parsed.command == "server" and not (parsed.name and _is_replicated(parsed.store)):
        parsed.name = os.uname().nodename if _is_replicated(parsed.store) else SERVER
    if parsed.command is None and not parsed.version:
        parser.print_help()
    return parsed


def _is_replicated(store: str | None) -> bool:
    return store is not None and store.startswith("etcd:")


def _data_dir(parser: argparse.ArgumentParser) -> None:
    default = default_data_dir(os.environ, os.getuid())
    parser.add_argument("--data-dir", type=lambda text: Path(text).absolute(), default=default, metavar="DIR", help=f"default: {default}")


def _env(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--account", metavar="NAME", help="that of another account, whose key `account create --keep` kept")


def _quota_value(text: str) -> str:
    if text != DEFAULT and not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"a quota is a whole number, or the word {DEFAULT}")
    return text


def _account(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="a new account; prints its id and its root's access key, which is not shown again")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--account-id", type=_account_id, metavar="ID", help="12 digits; default: made")
    create.add_argument("--role-name", metavar="NAME", help="of the role that the first account may assume; default: OrganizationAccountAccessRole")
    create.add_argument("--keep", action="store_true", help="keep the key in the data directory, for `env --account NAME`")
    listed = actions.add_parser("list", help="every account")
    close = actions.add_parser("close", help="refuse every key of an account; what it has stays")
    reopen = actions.add_parser("reopen", help="take the keys of a closed account again")
    quota = actions.add_parser("quota", help="show the quotas of an account, or set one")
    for named in (close, reopen, quota):
        named.add_argument("account", metavar="ACCOUNT", help="its id or its name")
    quota.add_argument("quota", nargs="?", metavar="NAME", help="default: all")
    quota.add_argument("value", nargs="?", type=_quota_value, metavar="VALUE", help=f"a whole number, or {DEFAULT}: the installation's")
    for each in (create, listed, close, reopen, quota):
        _data_dir(each)
        each.add_argument("--json", action="store_true", help="as a JSON value")


def _detach(parser: argparse.ArgumentParser, until: str) -> None:
    parser.add_argument("--detach", "-d", action="store_true", help=f"run in the background; return when {until}")


def _account_id(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text, re.ASCII):
        raise argparse.ArgumentTypeError("an account id has 12 digits")
    return text


def _region(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError("a region looks like us-east-1")
    return text


def _zone(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", text, re.ASCII):
        raise argparse.ArgumentTypeError("an availability zone looks like us-east-1a")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise argparse.ArgumentTypeError("a server's name has letters, digits, dots and hyphens")
    return text


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def _capacity_provider(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text, re.ASCII):
        raise argparse.ArgumentTypeError("a capacity provider's name has letters, digits, underscores and hyphens")
    return text


def _host(parser: argparse.ArgumentParser, *, zone: str) -> None:
    """What `up` and `agent` say of this machine."""
    parser.add_argument("--zone", type=_zone, help=zone)
    parser.add_argument(
        "--capacity-provider", type=_capacity_provider, metavar="NAME", help="this instance belongs to it; at the agent's start, default: none"
    )


def _control_plane(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, help=f"default: the one used last, at first {DEFAULT_PORT}")
    parser.add_argument("--account-id", type=_account_id, metavar="ID", help="12 digits, at first start; default: made and kept")
    parser.add_argument("--region", type=_region, metavar="NAME", help="at first start; default: us-east-1")
    _root_key(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="change one of the server's settings; repeatable; up and server --detach keep it for the next start",
    )


def _tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tls", action="store_true", help="speak https, with certificates of the installation's own authority; kept")


def _file(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


def _tls_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tls-cert", type=_file, metavar="FILE", help="speak https with this certificate (PEM, with its chain) instead")
    parser.add_argument("--tls-key", type=_file, metavar="FILE", help="its key, if it is in a file of its own")
    parser.add_argument("--tls-ca", type=_file, metavar="FILE", help="whom clients must trust for it; default: whom their systems trust")


def _certificates(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="every certificate of the data directory, and until when it counts")
    status.add_argument("--json", action="store_true", help="the same facts as JSON")
    issue = actions.add_parser("issue", help="a certificate with its key, in one new file, for a program elsewhere, such as a member of etcd")
    issue.add_argument("file", type=lambda text: Path(text).absolute(), metavar="FILE")
    issue.add_argument("--names", default="", metavar="NAME,ADDRESS,...", help="under which it is reached; none for a mere client")
    issue.add_argument(
        "--server", type=_name, metavar="NAME", help="it is for the installation's server of that name, where the authority's key is not"
    )
    issue.add_argument("--days", type=_count, metavar="N", help="default: as long as servers' certificates count")
    rotate = actions.add_parser(
        "rotate", help="another authority: prepare makes and trusts it, switch has it sign, finish ends the trust in the old one"
    )
    rotate.add_argument("step", choices=("prepare", "switch", "finish"))
    for action in (status, issue, rotate):
        _data_dir(action)


def _root_key(parser: argparse.ArgumentParser) -> None:
    """Two settings by names of their own."""
    parser.add_argument(
        "--root-key-file",
        action="append",
        default=[],
        dest="settings",
        type=lambda text: f"root_key_file={Path(text).absolute()}",
        metavar="FILE",
        help="where the root key is that secrets are sealed with; kept for the next start; default: root.key in the data directory",
    )
    parser.add_argument(
        "--root-key-command",
        action="append",
        default=[],
        dest="settings",
        type=lambda text: f"root_key_command={text}",
        metavar="COMMAND",
        help="a program with arguments that prints it instead",
    )


def _up(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    _detach(parser, "the API answers and this machine's instance is ACTIVE and connected")
    _control_plane(parser)
    _host(parser, zone="this instance's availability zone; default: the region's first")
    parser.add_argument(
        "--servers", type=_count, metavar="N", help="with its own etcd of N members and N servers, on --port and the next ones; fixed at first start"
    )
    _tls(parser)
    parser.add_argument("--demo", action="store_true", help="run a service of three tasks and print URLs that answer")


def _status(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--json", action="store_true", help="the same facts, and the processes, as one JSON object")


def _down(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--tasks", action="store_true", help="first scale every service to 0, stop every task and remove the containers")


def _logs(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("task", metavar="TASK", help="a task's ARN, its id or the id's first characters")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the task ends")


def _moment(text: str) -> Moment:
    try:
        return parse_moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a moment is a revision (1234), an instant (2026-11-24T08:00:00Z) or how long ago (10m)") from None


def _reading(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--cluster", metavar="NAME", help="default: every cluster for lists, else the cluster default")
    parser.add_argument("--json", action="store_true", help="as the API answers it")


def _at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", type=_moment, metavar="MOMENT", help="the state after a revision (1234), at an instant, or some time ago (10m)")


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=LISTED_KINDS)
    _reading(parser)
    _at(parser)
    parser.add_argument("--all", action="store_true", help="with tasks that are wanted STOPPED and INACTIVE task definitions")


def _resource(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "resource", metavar="RESOURCE", help="an ARN, KIND/NAME, KIND/CLUSTER/NAME (cluster, service, task, ...), a name, or the start of an id"
    )


def _describe(parser: argparse.ArgumentParser) -> None:
    _resource(parser)
    _reading(parser)
    _at(parser)


def _history(parser: argparse.ArgumentParser) -> None:
    _resource(parser)
    _reading(parser)


def _what_if(parser: argparse.ArgumentParser) -> None:
    _reading(parser)
    _predicted(parser)
    parser.add_argument("--add", type=_count, metavar="N", help="so many instances more, each like the one of --like")
    parser.add_argument("--like", metavar="INSTANCE", help="default: the first of the cluster")
    parser.add_argument("--add-in", metavar="ZONE", help="where the added ones stand; default: beside the one that they are like")
    parser.add_argument(
        "--lose", metavar="INSTANCE", action="append", default=[], help="an instance dies; may be given several times, as --drain and --desired"
    )
    parser.add_argument("--drain", metavar="INSTANCE", action="append", default=[], help="an instance drains")
    parser.add_argument("--lose-zone", metavar="ZONE", help="every instance of an availability zone dies")
    parser.add_argument("--desired", metavar="SERVICE=COUNT", action="append", default=[], help="another desired count of a service")


def _plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("operation", choices=("update-service",))
    _reading(parser)
    _predicted(parser)
    parser.add_argument("--service", required=True, metavar="SERVICE")
    parser.add_argument("--task-definition", metavar="FAMILY[:REVISION]")
    parser.add_argument("--desired-count", type=int, metavar="N")
    parser.add_argument("--minimum-healthy-percent", type=int, metavar="N")
    parser.add_argument("--maximum-percent", type=int, metavar="N")
    parser.add_argument("--force-new-deployment", action="store_true")


def _rule(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    put = actions.add_parser("put", help="put the rule, or the rules, of a JSON file")
    put.add_argument("file", type=Path, metavar="FILE")
    put.add_argument("--mode", choices=("ENFORCE", "REPORT"), help="in place of the file's")
    listed = actions.add_parser("list", help="the account's rules")
    delete = actions.add_parser("delete", help="delete rules")
    delete.add_argument("name", nargs="+", metavar="NAME")
    test = actions.add_parser("test", help="what violates the account's rules, or those of a file; status 1 when something does")
    test.add_argument("name", nargs="*", metavar="NAME", help="default: all of the account's")
    test.add_argument("--rule", type=Path, metavar="FILE", help="rules that need not be put; nothing is changed")
    test.add_argument("--cluster", metavar="NAME", help="only what is in it; default: everything, task definitions too")
    test.add_argument("--stopped", action="store_true", help="tasks that have stopped, too, as long as they are kept")
    for action in (put, listed, delete, test):
        _data_dir(action)
        action.add_argument("--json", action="store_true", help="as the API answers it")


def _predicted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, metavar="N", help="how far to look; default: 3600")
    parser.add_argument("--start-seconds", type=int, metavar="N", help="how long a task takes to start; default: 5")
    parser.add_argument("--stop-seconds", type=int, metavar="N", help="how long a task takes to stop; default: 5")


def _store_address(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--store", metavar="sqlite:PATH|etcd://HOST,...", help="default: SQLite in the data directory")


def _journal(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="walk the chain of hashes; name the first edit, loss or reorder")
    _store_address(verify)
    verify.add_argument("--json", action="store_true", help="the verdict as a JSON object")


def _audit(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    told = {
        "verify": "walk every chain and check every signature; name the first edit, loss or reorder",
        "export": "every call in AWS CloudTrail's record format: JSON lines, or files with --cloudtrail",
        "key": "the public keys that checkpoints are signed with, to be kept elsewhere",
        "checkpoint": "the newest checkpoint of each log, to be kept elsewhere",
    }
    for name, text in told.items():
        action = actions.add_parser(name, help=text)
        _data_dir(action)
        action.add_argument("directory", nargs="?", type=_path, metavar="DIR", help="a log or what holds some; default: the data directory")
        if name == "verify":
            action.add_argument("--key", type=_path, metavar="FILE", help="a public key that was kept elsewhere; default: the one beside the log")
            action.add_argument("--checkpoint", type=_path, metavar="FILE", help="checkpoints that were kept elsewhere, a line each")
            action.add_argument("--json", action="store_true", help="the verdicts as JSON")

        if name == "export":
            action.add_argument("--cloudtrail", type=_path, metavar="TO", help='files with {"Records": [...]} in this directory')
            action.add_argument("--account", type=_account_id, metavar="ID", help="only the calls of this account")
            action.add_argument("--since", type=_instant, default=0.0, metavar="INSTANT", help="2026-11-24T08:00:00Z")
            action.add_argument("--until", type=_instant, default=2.0**53, metavar="INSTANT")


def _instant(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError("an instant looks like 2026-11-24T08:00:00Z") from None


def _path(text: str) -> Path:
    return Path(text).absolute()


def _store(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    copy = actions.add_parser("copy", help="records and journal, into an empty store")
    _data_dir(copy)
    copy.add_argument("--from", required=True, metavar="sqlite:PATH|etcd://HOST,...")
    copy.add_argument("--to", required=True, metavar="etcd://HOST,...|sqlite:PATH")


def _key(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="write a new root key to a file of its own, for --root-key-file or a key management service")
    create.add_argument("file", type=lambda text: Path(text).absolute(), metavar="FILE")
    shown = actions.add_parser("status", help="which root keys the servers have, and what they wrap")
    shown.add_argument("--json", action="store_true", help="as a JSON list")
    rotated = actions.add_parser("rotate", help="take a new root key into use on every server; broken off, the same command goes on")
    forgotten = actions.add_parser("forget", help="remove root keys that nothing is wrapped with any more; backups of before need them")
    for action in (shown, rotated, forgotten):
        _data_dir(action)
    for action in (create, rotated, forgotten):
        action.set_defaults(json=False)


def _backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=lambda text: Path(text).absolute(), metavar="FILE")
    _store_address(parser)


def _restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=lambda text: Path(text).absolute(), metavar="FILE")
    _store_address(parser)


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=("status", "restart"),
        help="status: show the servers, who leads, how far each is behind; restart: one after another",
    )
    parser.add_argument("--json", action="store_true", help="with status: as a JSON object")
    _data_dir(parser)
    _detach(parser, "the API answers")
    _control_plane(parser)
    parser.add_argument("--store", metavar="memory|sqlite:PATH|etcd://HOST:PORT,…", help="default: SQLite in the data directory")
    parser.add_argument("--name", type=_name, help="with etcd: this server's name, the same after a restart; default: the machine's")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on; default: 127.0.0.1; any other needs TLS")
    _tls(parser)
    _tls_files(parser)
    parser.add_argument("--advertise", metavar="URL", help="where agents and other servers reach this one; default: http(s)://HOST:PORT")
    parser.add_argument("--own-etcd", action="store_true", help="with etcd: it is Homeport's alone, which compacts it when it is full")
    parser.add_argument("--reads", choices=("linearizable", "local"), default="linearizable", help="with etcd: local answers from a copy as it is")


def _agent(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    _detach(parser, "this machine's instance is ACTIVE and connected")
    _host(parser, zone="this instance's availability zone")
    parser.add_argument("--join", metavar="TOKEN", help="become a host of the server's installation, once; - reads the token from stdin")
    parser.add_argument(
        "--server",
        "--endpoint",
        dest="endpoint",
        metavar="URL",
        help="a control plane elsewhere, or several with commas between; default: the one joined; without a token: keys of AWS_ACCESS_KEY_ID",
    )
    parser.add_argument("--ca-file", type=_file, metavar="FILE", help="whom to trust at an https URL (ca.pem of the server); default: AWS_CA_BUNDLE")


def _duration(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError("a time looks like 90s, 30m, 1h or 2d")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def _token(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="a new one; prints it once, it is not shown again")
    create.add_argument("--cluster", metavar="NAME", help="where hosts may register; default: default")
    create.add_argument("--expires", type=_duration, metavar="TIME", help="60s to 7d; default: 1h")
    create.add_argument("--role", metavar="ROLE", help="name or ARN of the role that hosts get; default: ecsInstanceRole, made when it is missing")
    create.add_argument("--uses", type=_count, metavar="N", help="how many machines may join with it; default: 1")
    create.add_argument("--instance", metavar="INSTANCE", help="for a machine that goes on as this container instance, with new credentials")
    listed = actions.add_parser("list", help="those that there are, without their text")
    delete = actions.add_parser("delete", help="nobody joins with it any more")
    delete.add_argument("token", metavar="ID")
    for each in (create, listed, delete):
        _data_dir(each)
        each.add_argument("--json", action="store_true", help="as a JSON value")


def _instance(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="every host that joined, and its container instance")
    revoke = actions.add_parser("revoke", help="a host's credentials are good for nothing from now on; its tasks run on")
    revoke.add_argument("instance", metavar="INSTANCE", help="a host's id (hi-…), or the ARN, id or start of the id of its container instance")
    for each in (listed, revoke):
        _data_dir(each)
        each.add_argument("--json", action="store_true", help="as a JSON value")


def _prepare(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--for-tests", action="store_true", help="install what the tests drive, but start nothing: they do")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a number of at least 1")
    return int(text)


def _simulate(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--instances", type=_count, default=1000, metavar="N")
    parser.add_argument("--processes", type=_count, default=1, metavar="N", help="spread the instances over so many processes")
    parser.add_argument(
        "--endpoint", metavar="URL", help="default: the data directory's server; keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    parser.add_argument("--cluster", default="default", metavar="NAME")
    parser.add_argument("--zones", type=_count, default=3, metavar="N", help="availability zones that the instances stand in")
    parser.add_argument("--cpu", type=_count, default=65_536, metavar="UNITS", help="of each instance")
    parser.add_argument("--memory", type=_count, default=262_144, metavar="MIB", help="of each instance")
    parser.add_argument("--start-delay", type=float, default=0.0, metavar="SECONDS", help="from a task's payload to RUNNING")
    parser.add_argument("--stop-delay", type=float, default=0.0, metavar="SECONDS", help="from a task's stop to STOPPED")
    parser.add_argument("--connections", type=_count, default=32, metavar="N", help="HTTP connections that a process's agents share")
    parser.add_argument("--http-reports", action="store_true", help="report over HTTP, as upstream agents do, not on the control connection")
    parser.add_argument("--no-telemetry", action="store_false", dest="telemetry", help="without the agents' second connection")
