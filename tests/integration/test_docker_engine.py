"""What a task definition asks for, on real containers."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.engine_host import IMAGE, Host, booted, container

from homeport.acs.messages import (
    ContainerPayload,
    Dependency,
    DockerVolume,
    HostVolume,
    MountPoint,
    PortMapping,
    TaskPayload,
    VolumeFrom,
    VolumePayload,
)

pytestmark = pytest.mark.usefixtures("docker_engine")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with booted(tmp_path, cleanup_seconds=0.2) as host:
        yield host


async def test_exit_code_and_order_of_reports(host: Host) -> None:
    payload = host.task(1, container(command="echo hello; exit 3"))
    report = await host.run(payload, "STOPPED")
    assert [item.status for item in host.reports] == ["RUNNING", "STOPPED"]
    assert (report.containers[0].exit_code, report.containers[0].reason) == (3, None)
    assert await host.output(report.containers[0]) == "hello"
    assert report.pull_started_at is not None and report.pull_stopped_at is not None and report.execution_stopped_at is not None
    assert report.pull_started_at <= report.pull_stopped_at <= report.execution_stopped_at


async def test_out_of_memory_of_a_container_and_of_a_task(host: Host) -> None:
    eat = "x=a; while true; do x=$x$x; done"
    reports = await asyncio.gather(
        host.run(host.task(1, container(command=eat, memory=16)), "STOPPED"),
        host.run(host.task(2, container(command=eat), memory=16), "STOPPED"),
    )
    for report in reports:
        assert report.containers[0].exit_code == 137
        assert report.containers[0].reason == "OutOfMemoryError: Container killed due to memory usage"


async def test_dynamic_and_fixed_ports_answer(host: Host, unused_tcp_port: int) -> None:
    serve = "mkdir -p /tmp/w && echo hi > /tmp/w/index.html && exec httpd -f -p 80 -h /tmp/w"
    one = host.task(1, container(command=serve, portMappings=[PortMapping(containerPort=80, protocol="tcp")]))
    two = host.task(2, container(command=serve, portMappings=[PortMapping(containerPort=80, hostPort=unused_tcp_port, protocol="tcp")]))
    udp = host.task(3, container(portMappings=[PortMapping(containerPort=53, protocol="udp"), PortMapping(containerPort=53, protocol="tcp")]))
    reports = [await host.run(payload) for payload in (one, two, udp)]
    ports = [binding for report in reports for binding in report.containers[0].network_bindings]
    assert [(port.container_port, port.protocol, port.bind_ip) for port in ports] == [
        (80, "tcp", "0.0.0.0"), (80, "tcp", "0.0.0.0"), (53, "tcp", "0.0.0.0"), (53, "udp", "0.0.0.0")
    ]  # fmt: skip
    assert ports[1].host_port == unused_tcp_port
    for port in ports[:2]:
        for _ in range(50):
            try:
                answer = await asyncio.to_thread(
                    lambda number=port.host_port: urllib.request.urlopen(f"http://127.0.0.1:{number}/", timeout=5).read()
                )
                break
            except OSError:
                await asyncio.sleep(0.1)
        assert answer == b"hi\n"
    taken = await host.run(host.task(4, container(portMappings=[PortMapping(containerPort=80, hostPort=unused_tcp_port, protocol="tcp")])), "STOPPED")
    assert str(taken.containers[0].reason).startswith("CannotStartContainerError: ")
    assert "port is already allocated" in str(taken.containers[0].reason)


async def test_images_and_programs_that_are_not_there(host: Host) -> None:
    missing = ContainerPayload(name="c", image="127.0.0.1:1/none:1", essential=True)
    report = await host.run(host.task(1, missing), "STOPPED")
    assert str(report.containers[0].reason).startswith("CannotPullContainerError: pull image 127.0.0.1:1/none:1: ")
    report = await host.run(host.task(2, ContainerPayload(name="c", image=IMAGE, essential=True, command=["/no/such"])), "STOPPED")
    assert str(report.containers[0].reason).startswith("CannotStartContainerError: ")
    assert report.containers[0].exit_code is None
    report = await host.run(host.task(3, container(host={"Binds": ["relative:bad:mode:x"]})), "STOPPED")
    assert str(report.containers[0].reason).startswith("CannotCreateContainerError: ")


async def test_the_process_is_as_the_definition_says(host: Host) -> None:
    code, output = await host.outcome(
        1,
        'echo "$(id -u) $(pwd) $KEY $(hostname) $AWS_REGION"; grep box /etc/hosts; grep nameserver /etc/resolv.conf',
        environment={"KEY": "a value=x"},
        config={"User": "1000", "WorkingDir": "/tmp", "Hostname": "myhost", "Labels": {"color": "blue"}},
        host={"ExtraHosts": ["box:10.1.2.3"], "Dns": ["10.9.9.9"]},
    )
    assert (code, output) == (0, "1000 /tmp a value=x myhost us-east-1\n10.1.2.3\tbox\nnameserver 10.9.9.9")
    labels = (await host.raw(host.task(1)))["Config"]["Labels"]
    assert labels["color"] == "blue"
    assert labels["com.amazonaws.ecs.task-arn"] == host.task(1).arn
    assert labels["com.amazonaws.ecs.container-name"] == "c"
    assert labels["com.amazonaws.ecs.task-definition-family"] == "it"
    assert labels["com.amazonaws.ecs.task-definition-version"] == "1"
    assert labels["homeport.installation"] == host.installation


async def test_entry_point_and_command(host: Host) -> None:
    made = ContainerPayload(name="c", image=IMAGE, essential=True, entryPoint=["/bin/echo", "entry"], command=["a", "b"])
    payload = host.task(1, made)
    report = await host.run(payload, "STOPPED")
    assert await host.output(report.containers[0]) == "entry a b"


async def test_what_linux_is_asked_for(host: Host) -> None:
    code, output = await host.outcome(
        1,
        "ulimit -n; cat /proc/sys/net/core/somaxconn; df -m /dev/shm | tail -1 | awk '{print $2}'; grep /scratch /proc/mounts | cut -d' ' -f3; "
        "cat /proc/1/comm; touch /x 2>/dev/null || echo readonly; chown 1 /scratch 2>/dev/null || echo nochown; ls /dev/mydev",
        host={
            "Ulimits": [{"Name": "nofile", "Soft": 1000, "Hard": 2000}],
            "Sysctls": {"net.core.somaxconn": "777"},
            "ShmSize": 32 * 1024 * 1024,
            "Tmpfs": {"/scratch": "size=4m"},
            "Init": True,
            "ReadonlyRootfs": True,
            "CapDrop": ["CHOWN"],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mydev", "CgroupPermissions": "rw"}],
        },
    )
    assert code == 0
    assert output.split() == ["1000", "777", "32", "tmpfs", "docker-init", "readonly", "nochown", "/dev/mydev"]


async def test_a_ulimit_that_this_host_cannot_give_is_lowered(host: Host) -> None:
    hard = host.runtime.limits().hard.get("nofile")
    if hard is None:
        pytest.skip("this host may raise its limits")
    _, output = await host.outcome(1, "ulimit -n", host={"Ulimits": [{"Name": "nofile", "Soft": hard + 1, "Hard": hard + 1}]})
    assert output == str(hard)
    assert "ulimit nofile lowered" in (await host.raw(host.task(1)))["Config"]["Labels"]["homeport.notes"]


async def test_capabilities(host: Host) -> None:
    show = "grep CapEff /proc/self/status | cut -f2"
    _, plain = await host.outcome(1, show)
    _, more = await host.outcome(2, show, host={"CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"]})
    assert int(more, 16) == (int(plain, 16) | 1 << 12) & ~1


async def test_privileged(host: Host) -> None:
    report = await host.run(host.task(1, container(command="grep CapEff /proc/self/status | cut -f2", host={"Privileged": True})), "STOPPED")
    assert (await host.raw(host.task(1)))["HostConfig"]["Privileged"]
    if host.runtime.limits().hard:  # a Docker without CAP_SYS_RESOURCE cannot give every capability, and must say so
        assert "unable to apply caps" in str(report.containers[0].reason)
    else:
        assert int(await host.output(report.containers[0]), 16) & 1 << 21


async def test_network_modes(host: Host) -> None:
    _, links = await host.outcome(1, "ls /sys/class/net", networkMode="none")
    assert links == "lo"
    _, links = await host.outcome(2, "ls /sys/class/net", networkMode="host")
    assert set(links.split()) == {path.name for path in Path("/sys/class/net").iterdir() if not path.name.startswith("veth")} | {
        link for link in links.split() if link.startswith("veth")
    }
    payload = host.task(
        3, container(command="sleep 100", portMappings=[PortMapping(containerPort=7, hostPort=7, protocol="tcp")]), networkMode="host"
    )
    report = await host.run(payload)
    assert [(item.host_port, item.container_port) for item in report.containers[0].network_bindings] == [(7, 7)]


async def test_hard_soft_and_shares(host: Host) -> None:
    payload = host.task(1, container(cpu=512, memory=64, host={"MemoryReservation": 32 * 1024 * 1024}))
    await host.run(payload)
    config = (await host.raw(payload))["HostConfig"]
    assert (config["CpuShares"], config["Memory"], config["MemoryReservation"]) == (512, 64 << 20, 32 << 20)


async def test_task_limits_are_a_control_group_that_goes_with_the_task(host: Host) -> None:
    described = await host.runtime.describe()
    if (described.cgroup_driver, described.cgroup_version) != ("cgroupfs", 1):
        pytest.skip("written for cgroup v1; the other variants differ in the files only")
    payload = host.task(1, container("a"), container("b"), cpu=0.5, memory=64)
    await host.run(payload)
    ident = payload.arn.rsplit("/", 1)[-1]
    memory, cpu = Path(f"/sys/fs/cgroup/memory/ecs/{ident}"), Path(f"/sys/fs/cgroup/cpu/ecs/{ident}")
    assert int((memory / "memory.limit_in_bytes").read_text()) == 64 << 20
    assert int((cpu / "cpu.cfs_quota_us").read_text()) == 50_000
    assert len([item for item in memory.iterdir() if item.is_dir()]) == 2
    await host.stop(payload)
    host.engine.acknowledged(payload.arn)
    for _ in range(100):
        if not host.engine.tasks():
            break
        await asyncio.sleep(0.05)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/ecs/{ident}"))
    assert await host.containers() == {}


async def test_volumes(host: Host, tmp_path: Path) -> None:
    (tmp_path / "bind").mkdir()
    shared = VolumePayload(
        name=f"{host.installation}-shared", type="docker", dockerVolumeConfiguration=DockerVolume(scope="shared", autoprovision=True, driver="local")
    )
    volumes = [
        VolumePayload(name="bind", type="host", host=HostVolume(sourcePath=str(tmp_path / "bind"))),
        VolumePayload(name="life", type="host", host=HostVolume()),
        VolumePayload(name="local", type="docker", dockerVolumeConfiguration=DockerVolume(scope="task", driver="local", labels={"l": "1"})),
        shared,
    ]
    mounts = [MountPoint(sourceVolume=volume.name, containerPath=f"/m{number}") for number, volume in enumerate(volumes)]
    reader = [MountPoint(sourceVolume="life", containerPath="/r", readOnly=True)]
    write = "for d in 0 1 2 3; do echo hi > /m$d/f || exit 1; done"
    read = "cat /r/f && ! touch /r/g 2>/dev/null"
    payload = host.task(
        1,
        container("w", write, mountPoints=mounts, essential=False),
        container("r", read, mountPoints=reader, dependsOn=[Dependency(containerName="w", condition="SUCCESS")]),
        volumes=volumes,
    )
    try:
        report = await host.run(payload, "STOPPED")
        assert [item.exit_code for item in report.containers] == [0, 0], report
        assert (tmp_path / "bind" / "f").read_text() == "hi\n"
        made = [mount["Name"] for mount in (await host.raw(payload, "w"))["Mounts"] if mount["Type"] == "volume"]
        assert len(made) == 3
        host.engine.acknowledged(payload.arn)
        for _ in range(100):
            if not host.engine.tasks():
                break
            await asyncio.sleep(0.05)
        kept = [name for name in made if await host.runtime.volume_exists(name)]
        assert kept == [shared.name]
    finally:
        await host.runtime.remove_volume(shared.name)


async def test_a_shared_volume_that_must_exist(host: Host) -> None:
    wanted = VolumePayload(name=f"{host.installation}-none", type="docker", dockerVolumeConfiguration=DockerVolume(scope="shared", driver="local"))
    report = await host.run(
        host.task(1, container(mountPoints=[MountPoint(sourceVolume=wanted.name, containerPath="/v")]), volumes=[wanted]), "STOPPED"
    )
    assert report.reason.startswith("ResourceInitializationError: the shared volume")


async def test_volumes_from_and_links(host: Host) -> None:
    payload = host.task(
        1,
        container("db", "echo data > /d/f; httpd -f -p 80 -h /d", mountPoints=[MountPoint(sourceVolume="v", containerPath="/d")]),
        container("app", "for i in 1 2 3 4 5; do wget -qO- http://base/f && cat /d/f && exit 0; sleep 1; done; exit 1", links=["db:base"],
                  volumesFrom=[VolumeFrom(sourceContainer="db", readOnly=True)]),
        volumes=[VolumePayload(name="v", type="host", host=HostVolume())],
    )  # fmt: skip
    report = await host.run(payload, "STOPPED")
    app = next(entry for entry in report.containers if entry.name == "app")
    assert (app.exit_code, await host.output(app)) == (0, "data\ndata")


async def test_health_lets_dependents_start_and_is_told(host: Host) -> None:
    check = {"Test": ["CMD-SHELL", "test -f /tmp/ok && echo fine"], "Interval": 200_000_000, "Timeout": 5_000_000_000, "Retries": 1}
    payload = host.task(
        1,
        container("app", dependsOn=[Dependency(containerName="db", condition="HEALTHY")]),
        container("db", "sleep 1; touch /tmp/ok; sleep 2; rm /tmp/ok; sleep 100", healthCheckType="docker", config={"Healthcheck": check}),
    )
    await host.run(payload)
    db, app = (await host.raw(payload, "db"))["State"], (await host.raw(payload, "app"))["State"]
    assert app["StartedAt"] > db["StartedAt"]

    def health() -> list[str]:
        return [item.healthStatus for found in host.engine.health() for item in found.containers]

    assert health() == ["HEALTHY"]
    await host.until(lambda: health() == ["UNHEALTHY"], 20)
    report = await host.stop(payload)
    assert report.status == "STOPPED"
    assert (await host.raw(payload, "app"))["State"]["FinishedAt"] < (await host.raw(payload, "db"))["State"]["FinishedAt"]


async def test_stop_signal_and_stop_timeout(host: Host) -> None:
    obey = "trap 'exit 42' USR1; while true; do sleep 0.1; done"
    one = host.task(1, container(command=obey, stopTimeout=30, config={"StopSignal": "SIGUSR1"}))
    two = host.task(2, container(command="trap '' TERM; while true; do sleep 0.1; done", stopTimeout=1))
    for payload in (one, two):
        await host.run(payload)
    await asyncio.sleep(0.3)
    assert (await host.stop(one)).containers[0].exit_code == 42
    assert (await host.stop(two)).containers[0].exit_code == 137


async def test_log_drivers_and_terminal(host: Host) -> None:
    payload = host.task(1, container(command="tty; echo x", config={"Tty": True, "OpenStdin": True}))
    report = await host.run(payload, "STOPPED")
    assert (await host.output(report.containers[0])).split() == ["/dev/pts/0", "x"]
    payload = host.task(2, container(command="echo x", host={"LogConfig": {"Type": "none"}}))
    await host.run(payload, "STOPPED")
    assert (await host.raw(payload))["HostConfig"]["LogConfig"]["Type"] == "none"
    payload = host.task(3, container(command="echo x", host={"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}}))
    await host.run(payload, "STOPPED")
    assert (await host.raw(payload))["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}


async def test_an_essential_exit_stops_the_others(host: Host) -> None:
    payload = host.task(1, container("a", "sleep 0.5; exit 4"), container("b", essential=False))
    report = await host.run(payload, "STOPPED")
    assert [(entry.name, entry.status, entry.exit_code) for entry in report.containers] == [("a", "STOPPED", 4), ("b", "STOPPED", 137)]


async def test_a_port_that_another_program_holds_is_avoided(host: Host) -> None:
    first = await host.run(host.task(1, container(portMappings=[PortMapping(containerPort=80, protocol="tcp")])))
    chosen = first.containers[0].network_bindings[0].host_port
    servers = []
    for port in range(chosen + 1, chosen + 3):  # Docker would take these next
        servers.append(await asyncio.start_server(lambda reader, writer: None, "0.0.0.0", port))
    try:
        report = await host.run(host.task(2, container(portMappings=[PortMapping(containerPort=80, protocol="tcp")])))
        assert report.containers[0].network_bindings[0].host_port not in {chosen, chosen + 1, chosen + 2}
    finally:
        for server in servers:
            server.close()


async def test_many_starts_and_one_long_stop(host: Host) -> None:
    slow = host.task(1, container(command="trap '' TERM; while true; do sleep 0.1; done", stopTimeout=8))
    await host.run(slow)
    host.engine.submit(TaskPayload(arn=slow.arn, desiredStatus="STOPPED"))
    await asyncio.gather(*(host.run(host.task(number)) for number in range(2, 10)))
    assert host.last(slow, "STOPPED") is None  # eight starts later the stop still waits
