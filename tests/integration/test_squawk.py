"""squawk itself, and the SQL of migrations as a real project gives it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from safepoint.django.sqlmigrate import MigrationSQL
from safepoint.errors import CommandFailed
from safepoint.rehearsal import squawk

SQL = """BEGIN;
--
-- Raw SQL operation
--
ALTER TABLE "item" DROP COLUMN "a";
-- THIS OPERATION CANNOT BE WRITTEN AS SQL
COMMIT;
"""


def test_squawk_answers_by_migration_rule_and_line() -> None:
    program = squawk.program()
    assert program is not None, "the extra `lint` belongs to the development environment"
    text = MigrationSQL("shop.0002_next", SQL, None, None, None)
    said = {(one.migration, one.rule, one.line) for one in squawk.listen(program, [text], 17)}
    assert ("shop.0002_next", "ban-drop-column", 5) in said
    (found,) = squawk.worth_saying(squawk.listen(program, [text], 17), [text], "rolling", [], {}, frozenset())
    assert (found.rule, found.table, found.line, found.source) == ("ban-drop-column", "item", 5, "squawk")


def test_a_program_that_answers_otherwise_is_an_error_that_says_what_to_install() -> None:
    text = MigrationSQL("shop.0002_next", SQL, None, None, None)
    with pytest.raises(CommandFailed) as caught:
        squawk.listen(Path(shutil.which("true") or sys.executable), [text], 17)
    assert "safepoint[lint]" in (caught.value.remedy or "")
