"""No byte on the disk tells a secret: not of a fresh installation, nor of one that an older program began. On a real server, file by file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.acceptance.soak import Client, Servers, wait_until_whole
from tests.integration.etcd_members import etcd_members

from homeport.clock import SystemClock
from homeport.controllers.data_key import renew, rewrap, scrub, seal_all
from homeport.errors import CommitFailedError
from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.session_key import SessionKey
from homeport.model.installation import Effect, Installation
from homeport.model.secret import is_sealed
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.table import Table
from homeport.store.tables import ACCESS_KEYS, DATA_KEYS, EFFECTS, INSTALLATION, SEALINGS, TABLES
from homeport.unlocking import unlock
from homeport.vault.keyring import Vault, place_of
from homeport.vault.root_key import KeyFile, RootKeyError, RootKeys
from homeport.vault.sealed_file import rewrap_file, seal_file

ACCOUNT, REGION = "123456789012", "eu-central-1"
ROOT_ID, ROOT_SECRET = "AKIAROOTROOTROOTROOT", "rootCanary/" + "r" * 29
KNOWS = ("credentials.json", "root.key")
"""What is there to tell the root's access key to its owner, and the key to everything."""


def spellings(secret: str) -> list[bytes]:
    """A secret as it may stand in a file: as it is, in hexadecimal, in base64 at each of its three shifts."""
    raw = secret.encode()
    found = [raw, raw.hex().encode(), raw.hex().upper().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        inner = encoded[-(-shift * 8 // 6) : len(encoded) - 2]
        found += [inner, inner.replace(b"+", b"-").replace(b"/", b"_")]
    return found


def leaks(directory: Path, secrets: list[str], *, but: tuple[str, ...] = KNOWS) -> list[str]:
    """Each file below `directory` that has one of the secrets in it, in any spelling."""
    wanted = [(secret[:8], spelling) for secret in secrets for spelling in spellings(secret)]
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name not in but]
    assert files
    return [
        f"{path.relative_to(directory)}: {name}"
        for path in files
        for content in (path.read_bytes(),)
        for name, spelling in wanted
        if spelling in content
    ]


def test_the_search_finds_what_it_should(tmp_path):
    for number, shift in enumerate(("", "a", "ab", "abc")):
        (tmp_path / f"{number}").write_bytes(base64.b64encode(f"{shift}{ROOT_SECRET}xyz".encode()))
    (tmp_path / "raw").write_bytes(b"x" + ROOT_SECRET.encode() + b"y")
    (tmp_path / "hex").write_bytes(ROOT_SECRET.encode().hex().encode())
    assert {leak.partition(":")[0] for leak in leaks(tmp_path, [ROOT_SECRET])} == {"0", "1", "2", "3", "raw", "hex"}
    assert leaks(tmp_path, ["another secret altogether"]) == []


class Program:
    """`homeport server`, as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> Program:
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        environ = {
            **os.environ,
            "HOMEPORT_ROOT_ACCESS_KEY_ID": ROOT_ID,
            "HOMEPORT_ROOT_SECRET_ACCESS_KEY": ROOT_SECRET,
            "HOMEPORT_LOG_LEVEL": "debug",
        }
        command = [sys.executable, "-P", "-m", "homeport", "server", "--data-dir", str(self.directory), "--port", str(self.port), "--region", REGION]
        with (self.directory / "log" / "server.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *options], env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def ready(self) -> Program:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client("sts").get_caller_identity()
                return self
            except Exception:
                assert self.process is not None
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)

    @property
    def log(self) -> str:
        return (self.directory / "log" / "server.log").read_text()

    def client(self, service: str, key: str = ROOT_ID, secret: str = ROOT_SECRET, token: str | None = None, **config: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, **config),
        )

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(30)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path / "data")
    yield made
    made.stop()


def homeport(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-m", "homeport", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_nothing_that_a_server_writes_tells_a_secret(program, tmp_path):
    """About 6 s: every operation that makes a secret, then every byte of the data directory and of a backup, beside the running server and killed."""
    program.start().ready()
    iam, sts, ecs = program.client("iam"), program.client("sts"), program.client("ecs")
    secrets = [ROOT_SECRET]
    iam.create_user(UserName="ann")
    for _ in range(2):
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        secrets.append(key["SecretAccessKey"])
    iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Active")
    iam.update_user(UserName="ann", NewUserName="anna")  # writes each of her keys anew
    account = sts.get_caller_identity()["Account"]
    trusting = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [trusting]})
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_user_policy(
        UserName="anna", PolicyName="all", PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    )
    ann = program.client("sts", key["AccessKeyId"], secrets[-1])
    assert ann.get_caller_identity()["Arn"].endswith("user/anna")
    for session in (ann.assume_role(RoleArn=role, RoleSessionName="session"), sts.get_session_token(), sts.get_federation_token(Name="fed")):
        secrets += [session["Credentials"]["SecretAccessKey"], session["Credentials"]["SessionToken"]]
    ecs.create_cluster(clusterName="c")
    for wrong in (ROOT_SECRET[::-1], "x" * 40):
        with pytest.raises(ClientError):
            program.client("ecs", secret=wrong).list_clusters()
    iam.delete_access_key(UserName="anna", AccessKeyId=key["AccessKeyId"])  # its deletion tells the record that it ended
    data = ("--data-dir", str(program.directory))
    secrets.append(json.loads(homeport("account", "create", "red", "--json", *data).stdout)["SecretAccessKey"])
    secrets.append(json.dumps(json.loads(homeport("token", "create", "--json", *data).stdout)).partition("hpj1.")[2].split(".")[1][:64])
    assert len(secrets[-1]) == 64
    assert homeport("backup", str(tmp_path / "data" / "backup.sqlite"), "--data-dir", str(program.directory)).returncode == 0
    assert leaks(program.directory, secrets) == []
    assert program.process is not None
    proc = Path(f"/proc/{program.process.pid}")
    assert not [each for each in secrets if each.encode() in (proc / "cmdline").read_bytes()]
    assert re.search(r"Max core file size +0 +0 ", (proc / "limits").read_text())
    program.kill()
    assert leaks(program.directory, secrets) == []
    names = {path.name for path in program.directory.iterdir()}
    assert {"homeport.sqlite", "homeport.sqlite-wal", "backup.sqlite"} <= names
    assert json.loads((program.directory / "credentials.json").read_bytes())["secret_access_key"] == ROOT_SECRET
    for name in KNOWS:
        assert stat.S_IMODE((program.directory / name).stat().st_mode) == 0o600
    program.start().ready()
    assert program.client("sts").get_caller_identity()["Account"] == account


def test_a_server_without_its_root_key_says_so_and_changes_nothing(program, tmp_path):
    program.start().ready()
    program.stop()
    key, store = program.directory / "root.key", program.directory / "homeport.sqlite"
    kept = key.read_bytes()

    def state() -> Any:
        with sqlite3.connect(store) as found:
            return found.execute("SELECT revision, hash FROM head").fetchall(), found.execute("SELECT * FROM data_keys").fetchall()

    before = state()
    other = tmp_path / "other.key"
    assert homeport("key", "create", str(other)).returncode == 0
    for content, why in ((None, r"needs root key [0-9a-f]{16}, and the root key file .*root\.key has none"), (other.read_bytes(), "needs root key")):
        key.unlink(missing_ok=True)
        if content is not None:
            key.write_bytes(content)
            key.chmod(0o600)
        program.start()
        assert program.ended() == 1
        assert re.search(why, program.log.splitlines()[-1])
        assert state() == before
        assert key.exists() == (content is not None), "a root key was made for a state that has one"
    key.write_bytes(kept)
    key.chmod(0o644)
    program.start()
    assert program.ended() == 1
    assert "chmod 600" in program.log.splitlines()[-1]
    key.chmod(0o600)
    program.start().ready()


def test_the_root_key_comes_from_a_file_or_a_command_of_one_s_own(program, tmp_path):
    mine = tmp_path / "elsewhere" / "mine.key"
    mine.parent.mkdir()
    program.start("--root-key-file", str(mine))
    assert program.ended() == 1
    assert f"homeport key create {mine}" in program.log.splitlines()[-1]
    assert homeport("key", "create", str(mine)).returncode == 0
    assert homeport("key", "create", str(mine)).returncode == 1, "a key that is there was replaced"
    program.start("--root-key-file", str(mine)).ready()
    program.stop()
    assert not (program.directory / "root.key").exists()
    program.start("--root-key-command", f"/bin/cat {mine}").ready()
    program.stop()
    program.start("--root-key-command", "/bin/cat /nowhere")
    assert program.ended() == 1
    assert "the root key command /bin/cat failed with status 1" in program.log.splitlines()[-1]
    assert leaks(program.directory, [mine.read_text().strip().rpartition(":")[2]]) == []


def test_the_same_call_sent_again_gets_the_secret_of_the_key_that_it_made_and_no_other(program):
    program.start().ready()
    iam = program.client("iam")
    iam.create_user(UserName="ann")

    def create() -> dict[str, str]:
        body = b"Action=CreateAccessKey&Version=2010-05-08&UserName=ann"
        form = "application/x-www-form-urlencoded; charset=utf-8"
        headers = {"Host": f"127.0.0.1:{program.port}", "Content-Type": form, "amz-sdk-invocation-id": "one-and-the-same"}
        lower = {name.lower().encode(): value.encode() for name, value in headers.items()}
        request = sigv4.Request("POST", b"/", b"", lower, hashlib.sha256(body).hexdigest())
        signed = sigv4.sign(request, sigv4.Credentials(ROOT_ID, ROOT_SECRET, REGION, "iam"), time.time())
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", program.port, timeout=30)) as connection:
            connection.request("POST", "/", body, {**headers, **signed})
            answer = connection.getresponse().read().decode()
        return dict(re.findall(r"<(AccessKeyId|SecretAccessKey|Code)>([^<]*)<", answer))

    first, again = create(), create()
    assert first == again
    assert len(first["SecretAccessKey"]) == 40
    assert len(iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]) == 1
    iam.delete_access_key(UserName="ann", AccessKeyId=first["AccessKeyId"])
    assert create() == {"Code": "NoSuchEntity"}


# ------------------------------------------------------------------------------------------- what older programs stored


class OldAccessKey(AccessKey, frozen=True, kw_only=True):
    """Version 1: its secret in clear."""


class OldSessionKey(SessionKey, frozen=True, kw_only=True):
    """Version 1."""


OLD_ACCESS_KEYS = Table("access_keys", OldAccessKey, lambda r: r.id, indexes={"principal": lambda r: (r.principal_arn,)})
OLD_SESSION_KEYS = Table("session_keys", OldSessionKey, lambda r: r.id)
NEW = (DATA_KEYS, SEALINGS)
OLD_TABLES = tuple(
    {"access_keys": OLD_ACCESS_KEYS, "session_keys": OLD_SESSION_KEYS}.get(table.name, table)
    for table in TABLES
    if table.name not in {t.name for t in NEW}
)


def canaries(count: int) -> list[str]:
    return [f"oldCanary{number:03d}/" + "k" * 27 for number in range(count)]


async def old_installation(path: Path, count: int) -> list[str]:
    """A store as the version before left it: keys that were changed and deleted, an answer of CreateAccessKey that is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = await Store.open(SqliteBackend(path), tables=OLD_TABLES, clock=SystemClock())
    root = f"arn:aws:iam::{ACCOUNT}:root"
    secrets = canaries(count)
    made = Installation(id="0123456789abcdef", account=ACCOUNT, region=REGION, created_at=1.0)
    first = OldAccessKey(id=ROOT_ID, secret=ROOT_SECRET, account=ACCOUNT, principal_arn=root, created_at=1.0)
    await store.update(lambda tx: (tx.put(INSTALLATION, made), tx.put(OLD_ACCESS_KEYS, first)), cause="server start")
    session = OldSessionKey(id="key00001", secret=secrets[0] * 2, created_at=1.0)
    await store.update(lambda tx: tx.put(OLD_SESSION_KEYS, session), cause="server start")
    for number, secret in enumerate(secrets):
        key = OldAccessKey(
            id=f"AKIA{number:016d}", secret=secret, account=ACCOUNT, principal_arn=f"arn:aws:iam::{ACCOUNT}:user/u{number}", created_at=2.0
        )
        await store.update(lambda tx, key=key: tx.put(OLD_ACCESS_KEYS, key), cause="CreateAccessKey")
        if number % 10 == 3:
            await store.update(lambda tx, key=key: tx.delete(OLD_ACCESS_KEYS, key.id), cause="DeleteAccessKey")
        if number % 10 == 4:
            answer = msgspec.json.encode({"UserName": "u", "SecretAccessKey": secret})
            effect = Effect(key=f"AK/{number}/1", answer=answer, made_at=1.0)
            await store.update(lambda tx, effect=effect: tx.put(EFFECTS, effect), cause="CreateAccessKey")
    kept = Effect(key="AK/other/1", answer=b'{"clusterArn":"c"}', made_at=1.0)
    await store.update(lambda tx: tx.put(EFFECTS, kept), cause="CreateCluster")
    await store.close()
    return [*secrets, ROOT_SECRET]


async def test_an_older_installation_is_sealed_at_its_first_start_and_nothing_is_left_in_clear(program):
    """About 4 s."""
    secrets = await old_installation(program.directory / "homeport.sqlite", 120)
    assert len(leaks(program.directory, secrets)) == len(secrets), "the old store has every secret in clear"
    program.start().ready()
    assert leaks(program.directory, secrets) == []
    key = program.client("sts", f"AKIA{7:016d}", secrets[7]).get_caller_identity()
    assert key["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/u7"
    ecs = program.client("ecs")
    ecs.create_cluster(clusterName="after")
    program.stop()
    assert leaks(program.directory, secrets) == []
    verdict = homeport("journal", "verify", "--data-dir", str(program.directory))
    assert verdict.returncode == 0, verdict.stdout
    program.start().ready()
    assert "removing what older programs stored" not in program.log.rpartition("serves at")[0].rpartition("serves at")[2]


class Stop(Exception):
    """The server is killed here."""


class Killed:
    """A store whose process is killed before or after its Nth step."""

    def __init__(self, store: Store, at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in {"update", "prune_journal_through", "scrub"}:
            return found

        async def step(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Stop
            result = await found(*arguments, **named)
            if self._left == 0:
                raise Stop
            return result

        return step


async def opened(path: Path) -> tuple[Store, Vault]:
    roots = RootKeys(KeyFile(path.with_name("root.key")), Ids().bytes)
    if not roots.load():
        roots.create()
    vault = Vault(roots, Ids())
    store = await Store.open(SqliteBackend(path), tables=TABLES, clock=SystemClock(), derived=(vault,))
    return store, vault


async def readable(store: Store, vault: Vault, secrets: list[str]) -> None:
    """Every key has its secret, sealed or not."""
    for key in await store.view(lambda reader: list(reader.scan(ACCESS_KEYS))):
        place = place_of("access_keys", key.id)
        assert (vault.open(key.secret, place).reveal() if is_sealed(key.secret) else key.secret) in secrets


async def test_a_wrong_root_key_is_found_before_anything_else_is_looked_at(tmp_path):
    store, vault = await opened(tmp_path / "homeport.sqlite")
    await unlock(store, vault)
    await store.update(lambda tx: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="server start")
    await unlock(store, vault)
    vault.roots.source.write((vault.roots.new(),))
    with pytest.raises(RootKeyError, match="this store needs root key"):
        await unlock(store, vault)
    (tmp_path / "root.key").unlink()
    bare = Vault(RootKeys(KeyFile(tmp_path / "root.key"), Ids().bytes), Ids())
    bare.change("data_keys", None, vault.newest)
    with pytest.raises(RootKeyError, match="has none"):
        await unlock(store, bare)
    assert not (tmp_path / "root.key").exists()
    await store.close()


async def test_scrubbing_leaves_nothing_in_pages_that_are_not_used_any_more(tmp_path):
    """Also where SQLite, as it was built, does not overwrite what it deletes."""
    path = tmp_path / "homeport.sqlite"
    secrets = await old_installation(path, 40)
    backend = SqliteBackend(path)
    await backend.load(tuple(table.name for table in TABLES))
    assert backend._connection is not None
    backend._connection.execute("PRAGMA secure_delete = OFF")
    await backend.clear()
    backend._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert leaks(tmp_path, secrets), "nothing is overwritten by itself"
    await backend.scrub()
    assert leaks(tmp_path, secrets) == []
    await backend.close()


async def test_nobody_s_words_make_the_journal_begin_anew(tmp_path):
    """An answer that is kept may speak of secrets, for example a task definition's: that is no older program's."""
    for older in (False, True):
        path = tmp_path / str(older) / "homeport.sqlite"
        path.parent.mkdir()
        if older:
            await old_installation(path, 5)
        store, vault = await opened(path)
        await store.update(lambda tx, vault=vault: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="server start")
        await seal_all(store, vault, SystemClock())
        await scrub(store)
        words = Effect(key="AK/words/1", answer=b'{"environment":[{"name":"SecretAccessKey"}],"SecretAccessKey":1}', made_at=1.0)
        await store.update(lambda tx, words=words: tx.put(EFFECTS, words), cause="RegisterTaskDefinition")
        anchor, _ = await store._backend.ends()
        assert (anchor.revision > 0) == older
        await seal_all(store, vault, SystemClock())
        await scrub(store)
        assert (await store._backend.ends())[0] == anchor
        assert await store.view(lambda reader: reader.get(EFFECTS, "AK/words/1")) is not None
        await store.close()


async def test_what_is_moved_from_one_key_to_another_opens_neither(program):
    """Whoever can write the file makes no key of his own speak for another."""
    program.start().ready()
    iam = program.client("iam")
    iam.create_user(UserName="ann")
    mine, other = (iam.create_access_key(UserName="ann")["AccessKey"] for _ in range(2))
    program.stop()
    with contextlib.closing(sqlite3.connect(program.directory / "homeport.sqlite")) as file:
        rows = {
            msgspec.msgpack.decode(stored)[0]: (row, msgspec.msgpack.decode(stored))
            for row, stored in file.execute("SELECT id, record FROM access_keys")
        }
        (one, first), (two, second) = rows[mine["AccessKeyId"]], rows[other["AccessKeyId"]]
        assert is_sealed(first[1])
        first[1], second[1] = second[1], first[1]
        for row, record in ((one, first), (two, second)):
            file.execute("UPDATE access_keys SET record = ? WHERE id = ?", (msgspec.msgpack.encode(record), row))
        file.commit()
    program.start().ready()
    for key_id in (mine["AccessKeyId"], other["AccessKeyId"]):
        for secret in (mine["SecretAccessKey"], other["SecretAccessKey"]):
            with pytest.raises(ClientError):
                program.client("sts", key_id, secret).get_caller_identity()
    assert f"the secret of access_keys/{mine['AccessKeyId']}/secret cannot be opened" in program.log
    assert leaks(program.directory, [mine["SecretAccessKey"], other["SecretAccessKey"]]) == []


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_step_of_sealing_everything_stays_readable_and_the_next_start_ends_it(tmp_path, after):
    """About 3 s each."""
    source = tmp_path / "old.sqlite"
    secrets = await old_installation(source, 60)
    for at in range(1, 30):
        path = tmp_path / f"{after}-{at}" / "homeport.sqlite"
        path.parent.mkdir()
        path.write_bytes(source.read_bytes())
        store, vault = await opened(path)
        await store.update(lambda tx, vault=vault: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="server start")
        killed: Any = Killed(store, at, after=after)
        ended = False
        try:
            await seal_all(killed, vault, SystemClock())
            await scrub(killed)
            ended = True
        except Stop:
            pass
        await readable(store, vault, secrets)
        await store.close()
        store, vault = await opened(path)
        await readable(store, vault, secrets)
        await seal_all(store, vault, SystemClock())
        await scrub(store)
        assert (await store.journal.verify()).problem == ""
        assert [effect.key for effect in await store.view(lambda reader: list(reader.scan(EFFECTS)))] == ["AK/other/1"]
        assert leaks(path.parent, secrets) == []
        await store.close()
        assert leaks(path.parent, secrets) == []
        if ended:
            break
    assert 5 < at < 29


async def test_a_full_disk_while_cleaning_up_leaves_a_store_that_serves_and_is_cleaned_up_later(tmp_path):
    path = tmp_path / "homeport.sqlite"
    secrets = await old_installation(path, 5)
    store, vault = await opened(path)
    await store.update(lambda tx: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="server start")
    await seal_all(store, vault, SystemClock())
    reader = sqlite3.connect(path, isolation_level=None)  # a shell that reads: the log cannot be emptied under it
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM head").fetchall()
    with pytest.raises(CommitFailedError):
        await scrub(store)
    await store.update(lambda tx: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="still serves")
    reader.close()
    await scrub(store)
    assert leaks(tmp_path, secrets) == []
    await store.close()


# ----------------------------------------------------------------------------------------------------------- new keys


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_step_of_a_rotation_everything_stays_readable(tmp_path, after):
    """New data keys seal everything anew, a new root key wraps them anew; 130 data keys take three transactions."""
    path = tmp_path / "homeport.sqlite"
    store, vault = await opened(path)
    for _ in range(130):
        await store.update(lambda tx: tx.put(DATA_KEYS, vault.new_data_key(tx.now)), cause="new data key")
    secrets = canaries(110)
    for number, secret in enumerate(secrets):
        key_id = f"AKIA{number:016d}"
        sealed = vault.seal(secret, place_of("access_keys", key_id))
        key = AccessKey(id=key_id, secret=sealed, account=ACCOUNT, principal_arn="a", created_at=1.0)
        await store.update(lambda tx, key=key: tx.put(ACCESS_KEYS, key), cause="test")
    await store.close()
    for at in range(1, 30):
        store, vault = await opened(path)
        old = vault.roots.newest.id
        vault.roots.source.write((vault.roots.new(), *(vault.roots.source.read() or ())[:10]))
        vault.roots.load()
        before = vault.newest.id
        killed: Any = Killed(store, at, after=after)
        ended = False
        try:
            await rewrap(killed, vault)
            await renew(killed, vault, before=store._clock.now() + 1)
            ended = True
        except Stop:
            pass
        await readable(store, vault, secrets)
        await store.close()
        store, vault = await opened(path)
        vault.require_open()
        await readable(store, vault, secrets)
        await rewrap(store, vault)
        wrapped = await store.view(lambda reader: {record.root_key_id for record in reader.scan(DATA_KEYS)})
        assert wrapped == {vault.roots.newest.id} != {old}
        await renew(store, vault, before=0.0)
        assert all(vault.is_current(key.secret) for key in await store.view(lambda reader: list(reader.scan(ACCESS_KEYS))))
        assert vault.newest.id != before or not ended
        await store.close()
        if ended:
            break
    assert 6 < at < 29
    assert leaks(tmp_path, secrets) == []


def test_a_root_key_is_replaced_while_the_server_serves(program, tmp_path):
    """About 8 s. Broken off after each step the same command goes on; a backup of before needs the old key until that is forgotten."""
    program.start().ready()
    data = ("--data-dir", str(program.directory))
    file, sealed = program.directory / "root.key", program.directory / "some" / "ca.sealed"
    sealed.parent.mkdir()
    roots = RootKeys(KeyFile(file), Ids().bytes)
    roots.load()
    seal_file(sealed, b"a private key", roots)
    old = roots.newest.id

    def status() -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(homeport("key", "status", "--json", *data).stdout)
        return found[0]

    assert (status()["rootKeys"], status()["dataKeys"], status()["sealedFiles"]) == ([old], {old: 1}, {old: 1})
    assert homeport("backup", str(tmp_path / "before.sqlite"), *data).returncode == 0
    # Broken off when the new key was in the file: the server is killed, comes back with both, and the same command goes on with that key.
    prepared = roots.new()
    roots.source.write((prepared, *roots.keys))
    program.kill()
    program.start().ready()
    assert (status()["rootKeys"], status()["dataKeys"]) == ([prepared.id, old], {old: 1})
    refused = homeport("key", "forget", *data)
    assert (refused.returncode, "not in use yet" in refused.stderr) == (1, True)
    # Broken off when files were wrapped and data keys were not.
    roots.load()
    assert rewrap_file(sealed, roots)
    done = homeport("key", "rotate", *data)
    assert done.returncode == 0, done.stderr
    assert (status()["rootKeys"], status()["dataKeys"], status()["sealedFiles"]) == ([prepared.id, old], {prepared.id: 1}, {prepared.id: 1})
    # Nothing was broken off: the next one makes a key of its own.
    assert homeport("key", "rotate", *data).returncode == 0
    newest = status()["rootKeys"][0]
    assert newest not in {prepared.id, old}
    assert (status()["dataKeys"], status()["sealedFiles"]) == ({newest: 1}, {newest: 1})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"{newest}" in homeport("key", "status", *data).stdout
    assert program.client("sts").get_caller_identity()
    program.stop()
    assert homeport("restore", str(tmp_path / "before.sqlite"), *data).returncode == 0
    program.start().ready()
    assert status()["dataKeys"] == {old: 1}
    assert homeport("key", "rotate", *data).returncode == 0
    assert homeport("key", "forget", *data).returncode == 0
    assert list(status()["dataKeys"]) == status()["rootKeys"]
    assert "none to forget" in homeport("key", "forget", *data).stderr
    # A file that lost the key that is in use is not taken: the server goes on with what it has.
    lost = file.read_bytes()
    file.write_text(f"{roots.new().text()}\n")
    broken = homeport("key", "rotate", *data)
    assert (broken.returncode, "needs root key" in broken.stderr) == (1, True)
    assert list(status()["dataKeys"]) == status()["rootKeys"]
    assert program.client("sts").get_caller_identity()
    file.write_bytes(lost)
    program.stop()
    assert homeport("restore", str(tmp_path / "before.sqlite"), *data).returncode == 0
    program.start()
    assert program.ended() == 1
    assert f"needs root key {old}" in program.log.splitlines()[-1]


# ------------------------------------------------------------------------------------------------------ several servers


def test_several_servers_seal_an_older_state_and_take_a_new_root_key_while_they_serve(tmp_path):
    """About 25 s: three servers and etcd. What they keep beside etcd, and what etcd keeps of now, tells nothing."""
    source = tmp_path / "old" / "homeport.sqlite"
    secrets = asyncio.run(old_installation(source, 20))
    (tmp_path / "servers").mkdir()
    with etcd_members(tmp_path / "etcd", 3) as members:
        servers = Servers(tmp_path / "servers", "etcd://" + ",".join(endpoint.partition("//")[2] for endpoint in members.endpoints))
        copied = homeport("store", "copy", "--data-dir", str(source.parent), "--from", f"sqlite:{source}", "--to", servers.store)
        assert copied.returncode == 0, copied.stderr
        old_journal = servers.directory / "soak-1" / "journal.sqlite"  # as the server of before had it
        old_journal.parent.mkdir()
        old_journal.write_bytes(source.read_bytes())
        try:
            for number in range(3):
                servers.start(number, "--own-etcd", "--region", REGION)
            wait_until_whole(servers)
            assert leaks(servers.directory, secrets) == []
            assert servers.credentials()["secret_access_key"] == ROOT_SECRET
            data = ("--data-dir", str(servers.directory))
            told = json.loads(homeport("key", "status", "--json", *data).stdout)
            old = told[0]["rootKeys"]
            assert [each["rootKeys"] for each in told] == [old] * 3
            assert [each["dataKeys"] for each in told] == [{old[0]: 1}] * 3
            # One server's machine does not have the new key yet: nothing is wrapped with it.
            kept = (servers.directory / "root.key").read_bytes()
            servers.kill(2)
            assert "soak-2" in (refused := homeport("key", "rotate", *data)).stderr, refused
            assert (servers.directory / "root.key").read_bytes() == kept
            servers.start(2, "--own-etcd", "--region", REGION)
            wait_until_whole(servers)
            assert (done := homeport("key", "rotate", *data)).returncode == 0, done.stderr
            told = json.loads(homeport("key", "status", "--json", *data).stdout)
            new = told[0]["rootKeys"][0]
            assert new != old[0]
            assert [each["dataKeys"] for each in told] == [{new: 1}] * 3
            assert homeport("key", "forget", *data).returncode == 0
            told = json.loads(homeport("key", "status", "--json", *data).stdout)
            assert [each["rootKeys"] for each in told] == [[new]] * 3
            for number in range(3):
                with Client(servers, number) as client:
                    client.call(number, "CreateCluster", clusterName=f"c{number}")
            made = json.loads(homeport("account", "create", "red", "--json", *data).stdout)
            fresh = [made["SecretAccessKey"]]
            assert leaks(servers.directory, secrets + fresh) == []
            assert leaks(tmp_path / "etcd", fresh) == []
            for member in members.members:
                member.kill()
            assert leaks(tmp_path / "etcd", fresh) == []
        finally:
            servers.stop()
