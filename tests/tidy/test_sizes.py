"""Small enough to hold: lines of a module and a function, parameters (STYLE.md, rule 15).

`ratchet.toml` names what is above a limit today, with its size. A size may only fall: a new or grown one fails, and so does an entry that
is larger than the truth. `./dev ratchet` writes the file anew: read the difference before committing it.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 5
POSITIONAL_MAX = 3
"""Beyond two, parameters are better keyword-only; beyond this they must be. What many call (`Reader.find`, the ARN makers) stands in the ratchet."""


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: explaining is never punished."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, int]:
    """(all, positional ones) without self and cls."""
    positional = [argument.arg for argument in node.args.posonlyargs + node.args.args if argument.arg not in ("self", "cls")]
    return len(positional) + len(node.args.kwonlyargs), len(positional)


def measure(modules) -> dict[str, dict[str, int]]:
    """What is above its limit: table of the ratchet → place → size."""
    above: dict[str, dict[str, int]] = {"module_lines": {}, "function_lines": {}, "parameters": {}, "positional_parameters": {}}
    for module in modules:
        lines = module.text.count("\n")
        if lines > MODULE_LINES_MAX:
            above["module_lines"][module.path] = lines
        for name, node in module.functions():
            place = f"{module.path}:{name}"
            if (lines := function_lines(node)) > FUNCTION_LINES_MAX:
                above["function_lines"][place] = lines
            count, positional = parameters(node)
            if count > PARAMETERS_MAX:
                above["parameters"][place] = count
            if positional > POSITIONAL_MAX and not name.rsplit(".", 1)[-1].startswith("_"):
                above["positional_parameters"][place] = positional
    return above


def as_toml(tables: dict[str, dict[str, int]]) -> str:
    """The ratchet file's content."""
    blocks = ["# What is larger than rule 15 of STYLE.md allows, with its size. Entries only shrink."]
    for table, entries in tables.items():
        blocks.append("\n".join([f"[{table}]", *(f'"{place}" = {size}' for place, size in sorted(entries.items()))]))
    return "\n\n".join(blocks) + "\n"


def test_sizes_only_fall(modules, root):
    path = root / "tests/tidy/ratchet.toml"
    allowed = tomllib.loads(path.read_text())
    measured = measure(modules)
    grown = [
        f"{table}: {place} has {size}, allowed are {allowed.get(table, {}).get(place, 'none')}"
        for table, entries in measured.items()
        for place, size in entries.items()
        if size > allowed.get(table, {}).get(place, 0)
    ]
    assert not grown, "split these (or, with a reason in the commit, put them into tests/tidy/ratchet.toml):\n" + "\n".join(grown)
    assert allowed == measured, "sizes fell: run ./dev ratchet"


if __name__ == "__main__":
    from tests.tidy.conftest import parsed_modules

    Path(__file__).with_name("ratchet.toml").write_text(as_toml(measure(parsed_modules())))
