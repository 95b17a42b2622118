"""What the tidy tests look at: the repository's files, and the package's modules as syntax trees."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache", "build"}


@dataclasses.dataclass(frozen=True)
class Module:
    """One parsed module of the package."""

    path: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    def functions(self) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Every function with its qualified name, nested ones and methods included."""
        found: list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]] = []

        def walk(node: ast.AST, prefix: str) -> None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.append((prefix + child.name, child))
                    walk(child, f"{prefix}{child.name}.")
                elif isinstance(child, ast.ClassDef):
                    walk(child, f"{prefix}{child.name}.")
                else:
                    walk(child, prefix)

        walk(self.tree, "")
        return found


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def repository_files() -> list[Path]:
    """Every file of the working tree that could be committed."""

    def ignored(part: str) -> bool:
        return part in IGNORED or part.startswith(".venv") or part.endswith(".egg-info")

    return sorted(path for path in ROOT.rglob("*") if path.is_file() and not any(map(ignored, path.relative_to(ROOT).parts)))


def parsed_modules() -> list[Module]:
    """Every module under src/homeport."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text()
        found.append(Module(path=str(path.relative_to(ROOT)), text=text, tree=ast.parse(text)))
    assert len(found) > 20
    return found


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Every module under src/homeport."""
    return parsed_modules()
