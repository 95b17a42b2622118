"""The page about compatibility."""

from __future__ import annotations

import pytest

from homeport.api.compatibility import compatibility_table, others
from homeport.api.protocol import model


def test_every_operation_has_one_line_and_the_states_are_counted():
    page = compatibility_table(["ListClusters", "RunTask"], {"RunTask": "EC2 | EXTERNAL only"})
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == sorted(model.load().operations)
    assert "| ListClusters | supported |  |" in rows
    assert "| RunTask | partial | EC2 &#124; EXTERNAL only |" in rows
    assert "| CreateGateway | refused |  |" in rows
    assert "Of 88 operations 1 are supported, 1 partial and 86 refused." in page


def test_notes_and_handlers_must_be_of_real_operations():
    with pytest.raises(KeyError, match="ListClouds"):
        compatibility_table(["ListClouds"], {})
    with pytest.raises(KeyError, match="RunTask"):
        compatibility_table([], {"RunTask": "a note on what is not built"})


def test_other_services_are_told_by_name():
    assert "2 of 180 operations" in others("IAM", "iam", ["GetUser", "CreateUser"])
    assert "CreateUser, GetUser." in others("IAM", "iam", ["GetUser", "CreateUser"])
    assert "- GetUser: only on Mondays" in others("IAM", "iam", ["GetUser"], notes={"GetUser": "only on Mondays"})
    assert "Not built" in others("STS", "sts", ["GetCallerIdentity"])
    assert " AssumeRoot," in others("STS", "sts", ["GetCallerIdentity"])
    for operations, notes in ((["GetCoffee"], {}), ([], {"GetUser": "a note on what is not built"})):
        with pytest.raises(KeyError, match="Get"):
            others("IAM", "iam", operations, notes=notes)
