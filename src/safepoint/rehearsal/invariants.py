"""The invariants that the plan file names: queries whose answers a migration must not change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.rehearsal.checks import Check

_SHOWN = 5
_SECONDS = 600  # for each query


@dataclass(frozen=True)
class Answer:
    """What an invariant's query answered: the first rows as text, their number, and a digest over all of them."""

    rows: int
    shown: str
    digest: str
    error: str | None = None


def ask_invariants(connection: Connection, queries: Mapping[str, str]) -> dict[str, Answer]:
    """Ask each query, without the right to write anything. One that fails is answered with its error."""
    answers = {}
    for name, query in queries.items():
        try:
            with connection.transaction():
                connection.execute("set transaction read only")
                connection.execute(f"set local statement_timeout = {_SECONDS * 1000}")
                answers[name] = _answer(connection, query)
        except psycopg.Error as error:
            answers[name] = Answer(0, "", "", " ".join(str(error.diag.message_primary or error).split()))
    return answers


def _answer(connection: Connection, query: str) -> Answer:
    """All rows are read, but not kept; their order counts only where the query orders them."""
    digest, rows, shown = 0, 0, []
    with connection.cursor() as cursor:
        for row in cursor.stream(query.rstrip().rstrip(";").encode()):
            text = "\t".join("NULL" if value is None else str(value) for value in row)
            digest = (digest + int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])) % 2**128
            rows += 1
            if rows <= _SHOWN:
                shown.append(text)
    return Answer(rows, "; ".join(shown) + ("; …" if rows > _SHOWN else ""), f"{digest:032x}")


def judge_invariants(before: Mapping[str, Answer], after: Mapping[str, Answer]) -> tuple[Check, ...]:
    """Compare the answers. One that could not be asked has failed: it proves nothing. Pure."""
    checks = []
    for name, ours in before.items():
        theirs = after[name]
        faults = [
            f"{when}: {answer.error}"
            for when, answer in (("before", ours), ("after", theirs))
            if answer.error is not None
        ]
        if faults:
            checks.append(Check(name, "fail", f"could not be asked: {'; '.join(faults)}", tuple(faults)))
        elif ours.rows == 0 and theirs.rows == 0:
            checks.append(Check(name, "fail", "it looked at nothing: no rows before and none after"))
        elif (ours.rows, ours.digest) == (theirs.rows, theirs.digest):
            checks.append(Check(name, "pass", f"the same before and after: {ours.shown}"))
        else:
            found = (f"before: {ours.rows:,} rows: {ours.shown}", f"after: {theirs.rows:,} rows: {theirs.shown}")
            checks.append(Check(name, "fail", "; ".join(found), found))
    return tuple(checks)
