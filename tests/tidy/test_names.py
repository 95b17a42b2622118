"""Names: no drawers, AWS's nouns, no mocks of our own code (STYLE.md, rules 12, 13 and 19)."""

from __future__ import annotations

import ast
import re

BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "managers", "shared", "stuff", "core", "lib"}


def test_no_module_is_a_drawer(repository_files, root):
    wrong = [
        str(path.relative_to(root))
        for path in repository_files
        if path.suffix == ".py" and BANNED & {part.removesuffix(".py") for part in path.relative_to(root).parts}
    ]
    assert not wrong, f"a module named {sorted(BANNED)} has no home yet: {wrong}"


def test_each_package_is_in_the_nomenclature(modules, root):
    text = (root / "docs/design/nomenclature.md").read_text()
    packages = {module.path.removesuffix("/__init__.py").rsplit("/", 1)[1] for module in modules if module.is_package} - {"homeport"}
    missing = sorted(name for name in packages if f"`{name}`" not in text)
    assert not missing, f"docs/design/nomenclature.md does not explain the folders {missing}"


def test_no_mock_of_our_own_code(repository_files, root):
    wrong = []
    for path in repository_files:
        if path.suffix != ".py" or "tests" not in path.relative_to(root).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(re.match(r"(unittest\.mock|mock)(\.|$)", name) for name in names):
                wrong.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not wrong, f"fakes are real implementations from homeport.testing: {wrong}"


def test_no_switched_off_test_without_a_reason(repository_files, root):
    wrong = [
        f"{path.relative_to(root)}:{number}"
        for path in repository_files
        if path.suffix == ".py" and path.is_relative_to(root / "tests") and path.parent.name != "tidy"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"pytest\.mark\.skip\b(?!if)|pytest\.mark\.skip$", line) and "reason=" not in line
    ]
    assert not wrong, wrong
