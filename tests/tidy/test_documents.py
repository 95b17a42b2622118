"""Documents: links resolve, decisions are numbered and whole, no address of a registry is committed (STYLE.md, rule 20)."""

from __future__ import annotations

import re
import tomllib

import pytest

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
REGISTRIES = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "deb." + "debian.org"]
"""Written in two parts each, so that this file is not the one that commits them."""
NOT_CHECKED = {"tests/tidy/test_documents.py"}


def anchors(text: str) -> set[str]:
    """The anchors that a reader's renderer makes of a page's headings."""
    headings = re.findall(r"^#+\s+(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_relative_links_resolve(repository_files, root):
    wrong = []
    for path in repository_files:
        if path.suffix != ".md":
            continue
        for target in LINK.findall(path.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            aimed = (path.parent / name).resolve() if name else path
            if not aimed.exists():
                wrong.append(f"{path.relative_to(root)}: {target} is not there")
            elif anchor and aimed.suffix == ".md" and anchor not in anchors(aimed.read_text()):
                wrong.append(f"{path.relative_to(root)}: {target} has no such heading")
    assert not wrong, "\n".join(wrong)


def test_decisions_are_numbered_and_whole(root):
    pages = sorted((root / "docs/decisions").glob("[0-9]*.md"))
    assert len(pages) > 3
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        for heading in ("## Context", "## Decision", "## Consequences"):
            assert heading in text, f"{page.name} has no '{heading}'"


def test_no_registry_address_is_committed(repository_files, root):
    wrong = []
    for path in repository_files:
        if str(path.relative_to(root)) in NOT_CHECKED or path.stat().st_size > 5_000_000:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        wrong += [f"{path.relative_to(root)}: {host}" for host in REGISTRIES if host in text]
    assert not wrong, wrong


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_have_hashes_and_no_addresses(root, lock):
    text = (root / lock).read_text()
    assert "://" not in text
    requirements = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert len(requirements) > 10
    assert all("--hash=sha256:" in line for line in requirements)


def test_each_dependency_gives_its_reason_and_is_locked(root):
    text = (root / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    runtime, dev = project["project"]["dependencies"], project["dependency-groups"]["dev"]
    for dependency in runtime + dev:
        assert re.search(rf'^\s*"{re.escape(dependency)}",\s+# \S', text, re.MULTILINE), f"{dependency}: no reason on its line"
    for lock, wanted in (("requirements.lock", runtime), ("requirements-dev.lock", runtime + dev)):
        locked = set(re.findall(r"^([A-Za-z0-9_.-]+)==", (root / lock).read_text(), re.MULTILINE))
        missing = {re.split(r"[\[>=<]", dependency)[0] for dependency in wanted} - locked
        assert not missing, f"{lock} lacks {missing}: run ./dev lock"


def test_each_ruff_exception_gives_its_reason(root):
    lint = (root / "pyproject.toml").read_text().split("[tool.ruff.lint]")[1].split("[tool.mypy]")[0]
    for line in lint.splitlines():
        if re.match(r'\s+"[A-Z]+\d+",', line) or re.match(r'"(src|tests|benchmarks)/.*= \[', line):
            assert "#" in line, f"no reason: {line.strip()}"
