"""Each module opens with its job, what it owns and what it never does (STYLE.md, rule 14)."""

from __future__ import annotations

import ast
import re

OWNS_OR_NEVER = re.compile(r"^Owns: |\bnever\b", re.MULTILINE | re.IGNORECASE)


def test_each_module_says_its_job_and_what_it_never_does(modules):
    wrong = []
    for module in modules:
        docstring = ast.get_docstring(module.tree) or ""
        if not docstring.partition("\n")[0].strip().endswith((".", ":")):
            wrong.append(f"{module.path}: the docstring's first line must be a sentence")
        elif not module.is_package and not OWNS_OR_NEVER.search(docstring):
            wrong.append(f"{module.path}: the docstring must have a line 'Owns: …' or a sentence with 'Never …'")
    assert not wrong, "\n".join(wrong)


def test_package_files_hold_no_logic(modules):
    wrong = [
        f"{module.path}:{node.lineno}"
        for module in modules
        if module.is_package
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not wrong, f"__init__.py holds a docstring and at most re-exports: {wrong}"


def test_public_properties_and_nested_methods_have_docstrings(modules):
    wrong = []
    for module in modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            for member in node.body:
                public = isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_")
                if public and not ast.get_docstring(member):
                    wrong.append(f"{module.path}:{member.lineno} {node.name}.{member.name}")
    assert not wrong, "\n".join(wrong)
