from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

from homeport.cli.demo import image_archive, is_static, urls_of


def test_the_image_has_busybox_the_script_and_links_to_it():
    with tarfile.open(fileobj=io.BytesIO(image_archive(b"\x7fELF"))) as tar:
        members = {member.name: member for member in tar}
        assert members["bin/busybox"].mode == members["bin/serve"].mode == 0o755
        assert members["bin/httpd"].linkname == "busybox"
        script = tar.extractfile("bin/serve").read().decode()
    words = {word for line in script.splitlines() for word in line.replace("$(", " ").split()[:1]}
    assert {"mkdir", "cat", "echo"} <= words
    assert all(f"bin/{name}" in members for name in ("mkdir", "cat", "echo", "httpd", "hostname", "sh"))


def test_a_program_with_a_loader_is_not_static():
    assert not is_static(Path(sys.executable).resolve().read_bytes())
    assert not is_static(b"#!/bin/sh\n")
    assert not is_static(b"")


def test_a_port_bound_twice_is_one_url():
    bindings = [{"hostPort": 32768, "bindIP": ip} for ip in ("0.0.0.0", "::")] + [{"containerPort": 1}]
    assert urls_of({"containers": [{"networkBindings": bindings}, {}]}) == ["http://127.0.0.1:32768/"]
