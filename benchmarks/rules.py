"""Objects judged a CPU-second by the ten ready rules of docs/howto/rules.json, as an admission does: warm, the expressions are compiled.

Owns: the objects of the bench `rules`. Never checks verdicts: tests/unit/api/test_rule_library.py does.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from homeport.model.homeport.rule import Rule
from homeport.rules.expression import Budget
from homeport.rules.judgement import judge

SECONDS = 1.0
STEPS = 200_000
LIBRARY = Path(__file__).parents[1] / "docs/howto/rules.json"


def rules() -> list[Rule]:
    """The ready rules, as they would be stored."""
    found = []
    for item in json.loads(LIBRARY.read_text()):
        limits = {member: tuple(item.get(member, ())) for member in ("clusters", "families", "services")}
        texts = {member: item.get(member, "") for member in ("message", "require", "violations")}
        found.append(
            Rule(account="111122223333", name=item["name"], mode=item["mode"], kinds=tuple(item.get("resourceTypes", ())), **limits, **texts)
        )
    return found


def task(containers: int, variables: int) -> dict[str, Any]:
    """A well-made task of so many containers with so many environment variables each."""
    environment = [{"name": f"SETTING_{number}", "value": "x"} for number in range(variables)]
    definition = {
        "containerDefinitions": [
            {
                "name": f"c{number}",
                "image": "registry.example.com/app:1",
                "memory": 64,
                "readonlyRootFilesystem": True,
                "environment": environment,
            }
            for number in range(containers)
        ],
        "volumes": [],
        "family": "web",
    }
    return {
        "resourceType": "task",
        "cluster": "production",
        "service": None,
        "family": "web",
        "taskRoleArn": None,
        "tags": [{"key": "team", "value": "a"}],
        "overrides": {"containerOverrides": []},
        "taskDefinition": definition,
    }


def rate(document: dict[str, Any]) -> float:
    """Objects judged a CPU-second."""
    library = rules()
    if any(judge(rule, document, Budget(STEPS)) for rule in library):
        raise RuntimeError("the bench's own task violates a rule")
    judged, began = 0, time.process_time()
    while time.process_time() - began < SECONDS:
        for _ in range(20):
            for rule in library:
                judge(rule, document, Budget(STEPS))
        judged += 20
    return judged / (time.process_time() - began)


def run() -> list[dict[str, Any]]:
    """See the module. A task definition of the usual size must not cost an admission a millisecond."""
    unit = "objects per CPU-second"
    return [
        {
            "bench": "rules",
            "case": "ten rules, a task of 1 container",
            "value": round(rate(task(1, 5))),
            "unit": unit,
            "floor": 1_000,
            "target": 3_000,
        },
        {
            "bench": "rules",
            "case": "ten rules, a task of 10 containers",
            "value": round(rate(task(10, 30))),
            "unit": unit,
            "floor": 100,
            "target": 300,
        },
    ]
