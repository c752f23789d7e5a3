"""squawk (https://squawkhq.com) on the SQL of the migrations: what it adds to our own rules, and nothing else.

It is a program of its own that may not be installed (`pip install 'safepoint[lint]'`); without it the rest is done.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safepoint.config import HereHost
from safepoint.config.rules import RULES, Mode
from safepoint.django.sqlmigrate import MigrationSQL
from safepoint.errors import CommandFailed
from safepoint.hosts import open_host
from safepoint.hosts.command import Command
from safepoint.hosts.temporary import HeldFolder
from safepoint.rehearsal.findings import Finding
from safepoint.rehearsal.statements import shown

SMALL = 8 * 1024 * 1024
"""Bytes of a table below which a lock on it is over before anybody has waited."""

_TABLE = re.compile(
    r'\b(?:ON|TABLE(?:\s+ONLY)?(?:\s+IF\s+EXISTS)?)\s+(?:ONLY\s+)?(?:"?\w+"?\.)?"?(?P<table>\w+)"?', re.IGNORECASE
)


@dataclass(frozen=True)
class Said:
    """One line of squawk. `line` counts from 1."""

    migration: str
    rule: str
    line: int
    message: str
    help: str | None


def program() -> Path | None:
    """The program: beside this Python first (a virtual environment that is not activated), then on the PATH."""
    beside = Path(sys.executable).parent / "squawk"
    found = str(beside) if beside.exists() else shutil.which("squawk")
    return None if found is None else Path(found)


def argv(squawk: Path, files: Sequence[str], version: int) -> Command:
    """The command, for PostgreSQL of that major version. Pure."""
    return Command((str(squawk), "--reporter", "json", "--pg-version", str(version), *files))


def listen(
    squawk: Path,
    migrations: Iterable[MigrationSQL],
    version: int,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Said, ...]:
    """Everything that squawk says, in one run over all migrations.

    Raises:
        CommandFailed: it does not run, or does not answer as its present version does.
    """
    texts = {f"{one.label}.sql": one.forward for one in migrations if one.forward}
    if not texts:
        return ()
    with HeldFolder("safepoint-linting-") as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        # In a folder of its own no `.squawk.toml` of somebody's is found.
        host = open_host("here", HereHost(), Path(folder))
        result = host.run(argv(squawk, sorted(texts), version), check=False, timeout=120, cancelled=cancelled)
    try:
        # Its exit code says whether it found something; only the answer says whether it has looked.
        return read(json.loads(result.stdout))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandFailed(
            f"squawk did not answer in a form that is known: {(result.stderr or result.stdout).strip()[:200]}",
            subject=str(squawk),
            remedy="Install the version that this one was tried with: pip install 'safepoint[lint]'.",
        ) from error


def read(answer: Sequence[Mapping[str, Any]]) -> tuple[Said, ...]:
    """Its JSON, in which lines are counted from 0. Pure."""
    return tuple(
        Said(
            Path(one["file"]).name.removesuffix(".sql"), one["rule_name"], one["line"] + 1, one["message"], one["help"]
        )
        for one in answer
    )


def worth_saying(
    said: Iterable[Said],
    migrations: Iterable[MigrationSQL],
    mode: Mode,
    ours: Sequence[Finding],
    sizes: Mapping[str, int],
    new: frozenset[str],
) -> Iterator[Finding]:
    """What is left where the mode, our own findings, and the tables' sizes are known. Pure.

    Args:
        sizes: bytes by the table's bare name.
        new: tables that the migrations themselves make.
    """
    texts = {one.label: one for one in migrations}
    known = {(one.migration, one.rule) for one in ours}
    for one in said:
        rule = RULES.get(one.rule)
        if rule is None or not rule.squawk or mode not in rule.modes:
            continue
        if any((one.migration, ours_too) in known for ours_too in rule.covered):
            continue
        sql = texts[one.migration]
        statement = statement_at(sql.forward or "", one.line)
        table = match["table"] if (match := _TABLE.search(statement)) else None
        if table in new or (rule.grade == "locks" and table is not None and sizes.get(table, SMALL) < SMALL):
            continue
        where = sql.operation_at(one.line)
        place = f"{where}: {shown(statement)}" if where else shown(statement)
        why = " ".join(part for part in (one.message, one.help) if part)
        yield Finding(one.rule, one.migration, place, why, rule.safer, "squawk", table, one.line)


def statement_at(text: str, line: int) -> str:
    """The statement that begins at, or goes on over, that line (from 1), as far as a look at line ends tells. Pure."""
    lines = text.splitlines()
    found = []
    for part in lines[line - 1 :]:
        found.append(part.strip())
        if part.rstrip().endswith(";"):
            break
    return " ".join(found)
