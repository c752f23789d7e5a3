"""What `safepoint retire` looks at may change until it has the lock: a rollback may begin, and its conductor die."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from least_plan import SOMEDAY
from psycopg import sql

from safepoint.config import PlanFile, load
from safepoint.errors import Refused
from safepoint.launch.begin import entries_of, launch_folder
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.retire import due_at, retire
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import kept_name


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Until one end goes; then the other one does."""
    with source, suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def meanwhile(target: Target, happens: Callable[[], None]) -> Iterator[int]:
    """The port of a link to the server; something happens while its first connection is made."""

    def serve() -> None:
        for number in range(20):
            try:
                client, _ = listening.accept()
            except OSError:  # the test is over
                return
            server = socket.create_connection((target.host, target.port))
            if number == 0:
                happens()
            for ends in ((client, server), (server, client)):
                threading.Thread(target=pass_on, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def launched(folder: Path, database: Target, port: int) -> PlanFile:
    """The plan file of a launch that is over."""
    text = SOMEDAY.format(port=port).replace('name = "shop"\nhost', f'name = "{database.dbname}"\nhost')
    (folder / "launch.toml").write_text(text)
    plan = load(folder / "launch.toml")
    with Ledger(launch_folder(plan) / "ledger.jsonl") as here:
        here.append("launch", "launch", {"plan": make_plan(plan).as_json()})
        here.append("run", "run:1", {"run": 1, "course": "launch"})
        for step in ("fence", "unfence"):
            here.append("step.begun", f"1:{step}:1:begun", {"run": 1}, step=step)
        here.append("end", "end:1", {"run": 1, "status": "launched", "reason": ""})
    return plan


def test_a_rollback_that_began_while_a_retirement_looked_keeps_its_twin(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked the server's clock, and then had the lock: of a rollback whose conductor had died it took the twin."""
    monkeypatch.setenv("SHOP_PASSWORD", database.password or "")
    ledger = tmp_path / ".safepoint" / "launches"

    def a_rollback_begins() -> None:
        with Ledger(next(ledger.iterdir()) / "ledger.jsonl") as here:
            here.append("run", "run:2", {"run": 2, "course": "rollback"})

    with meanwhile(database, a_rollback_begins) as port:
        plan = launched(tmp_path, database, port)
        with pytest.raises(Refused, match="is under way"):
            retire(plan, now=due_at(entries_of(plan), plan) + timedelta(days=1))
    assert "retiring" not in [entry.kind for entry in entries_of(plan)]


@pytest.mark.parametrize("trace", ["a fence", "what was swapped out"])
def test_a_rollback_of_another_state_folder_that_died_keeps_its_twin(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: str
) -> None:
    """This folder is a copy of before: by its ledger all was over, and the twin went, with the site closed."""
    monkeypatch.setenv("SHOP_PASSWORD", database.password or "")
    plan = launched(tmp_path, database, database.port)
    live, kept = (sql.Identifier(name) for name in (database.dbname, kept_name(database.dbname, plan.launch_id)))
    with connect(database.on("postgres")) as server:
        if trace == "a fence":
            server.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(live))
        else:
            server.execute(sql.SQL("CREATE DATABASE {}").format(kept))
        try:
            with pytest.raises(Refused, match="another state folder") as refused:
                retire(plan, hurry=True)
            assert "Nothing was changed" in str(refused.value.remedy)
        finally:
            server.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(live))
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(kept))
    assert "retiring" not in [entry.kind for entry in entries_of(plan)]
    assert retire(plan, hurry=True)["done"]
