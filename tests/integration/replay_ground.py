"""A launch in small for the replay's tests: an old schema, its twin, the migrated database, the capture, the replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from postgres_servers import drop_database
from psycopg import sql

from safepoint.django.operations import Effect, Operation, Operations, What
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture import CaptureFacts, arm, disarm, drain
from safepoint.wayback.catalogue import read_catalogue
from safepoint.wayback.mapping import WayBack, plan_mapping
from safepoint.wayback.outcome import Outcome
from safepoint.wayback.replay import replay

LAUNCH = "shop-2.0"


def operations(*effects: tuple[What, str, str, str | None, str | None], opaque: bool = False) -> Operations:
    """Operations by hand: (what, table before, table after, column before, column after)."""
    found = tuple(
        Operation("shop.0002_next", what, f"{what} {before} {name or ''}".strip(), False, (effect,))
        for what, before, after, name, now in effects
        for effect in [Effect(what, f"shop.{before}", before, after, name, now)]
    )
    first = (Operation("shop.0002_next", "RunPython", "Raw Python operation", True),) if opaque else ()
    return Operations(("shop.0002_next",), first + found, {}, {})


@dataclass
class Ground:
    """`live` is at the new schema and captured; `twin` is as it was at the safe point."""

    live: Target
    twin: Target
    folder: Path
    operations: Operations
    mappers: Mapping[str, Mapping[str, str]]
    facts: CaptureFacts

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def mapping(self) -> WayBack:
        with connect(self.twin) as old, connect(self.live) as new:
            return plan_mapping(read_catalogue(old), read_catalogue(new), self.operations, self.mappers)

    def drain(self) -> None:
        drain(self.live, self.facts, self.spool)

    def replay(self, **words: Any) -> Outcome:
        return replay(
            self.twin, self.live, self.spool, self.mapping(), launch_id=LAUNCH, out=self.folder / "out", **words
        )

    def carry(self, **words: Any) -> Outcome:
        """Drain, then replay."""
        self.drain()
        return self.replay(**words)

    def write(self, *statements: str) -> None:
        """One transaction on the new schema."""
        with connect(self.live, autocommit=False) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement))
            connection.commit()

    def try_to_write(self, *statements: str) -> None:
        """One transaction, without the statements that break a constraint."""
        with connect(self.live, autocommit=False) as connection:
            for statement in statements:
                with suppress(psycopg.IntegrityError), connection.transaction():
                    connection.execute(sql.SQL(statement))
            with suppress(psycopg.IntegrityError):
                connection.commit()

    def old(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the twin."""
        return ask(self.twin, query)

    def new(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the migrated database."""
        return ask(self.live, query)


def ask(target: Target, query: str) -> list[tuple[Any, ...]]:
    with connect(target) as connection:
        return connection.execute(sql.SQL(query)).fetchall()


@contextmanager
def ground(
    database: Target,
    folder: Path,
    before: str | Sequence[str],
    migration: str,
    found: Operations | None = None,
    mappers: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Ground]:
    """The old schema is made, copied as the twin, migrated and captured."""
    twin = database.on(f"{database.dbname}_twin")
    with connect(database) as connection:
        _run(connection, before)
    with connect(database.on("postgres")) as connection:
        words = {"new": sql.Identifier(twin.dbname), "old": sql.Identifier(database.dbname)}
        connection.execute(sql.SQL("create database {new} template {old}").format(**words))
    try:
        with connect(database) as connection:
            _run(connection, migration)
        made = Ground(database, twin, folder, found or operations(), mappers or {}, arm(database, LAUNCH))
        yield made
        disarm(database, made.facts)
    finally:
        drop_database(twin)


def _run(connection: Connection, script: str | Sequence[str]) -> None:
    for statement in [script] if isinstance(script, str) else script:
        if statement:
            connection.execute(sql.SQL(statement))
