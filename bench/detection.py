"""What is found: random single-byte changes in a snapshot's files, and random single-value changes in a database.

Both numbers are how many were missed. Run: python bench/detection.py [byte changes] [value changes]
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from results import Result, merge, show
from snapshot import DATA, SETTINGS, tool

from safepoint.backup.explain import explain
from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import verify_files
from safepoint.backup.proof import prove, refuse_damaged
from safepoint.backup.snapshot import take_snapshot
from safepoint.errors import ProofFailed
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import Installation, installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

ENTRIES = 20_000
# Columns whose change no constraint of the data refuses, and how each is changed.
CHANGES = {
    ("journal_entry", "memo"): "memo || '.'",
    ("journal_entry", "posted_at"): "posted_at + interval '1 microsecond'",
    ("journal_line", "debit"): "debit + 0.01",
    ("journal_line", "note"): "coalesce(note, '') || '.'",
    ("users_userprofile", "email"): "upper(email)",
}


def measure(bytes_: int = 1000, values: int = 200) -> list[Result]:
    """Both numbers."""
    programs = installation(17)
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with Server.create(folder / "server", programs, password="bench", settings=SETTINGS) as server:
            tool(programs, server.target, "psql", "-q", "-v", f"entries={ENTRIES}", "-f", str(DATA))
            return [
                _byte_changes(folder, programs, server.target, bytes_),
                _value_changes(server.target, values),
            ]


def _byte_changes(folder: Path, programs: Installation, target: Target, count: int) -> Result:
    take_snapshot(
        target,
        Here("here", folder),
        installation=programs,
        folder=folder / "snapshots",
        snapshot_id="s",
        launch_id=None,
    )
    snapshot = folder / "snapshots" / "s"
    prove(snapshot, scratch_parent=folder / "scratch")
    files = [path for path in snapshot.rglob("*") if path.is_file() and path.stat().st_size]
    chance, missed, began = random.Random(1), 0, time.perf_counter()
    for number in range(count):
        path = files[number % len(files)]
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        try:
            verify_files(snapshot)
            refuse_damaged(snapshot)
            missed += 1
        except ProofFailed:
            pass  # found: this is what is counted
        path.write_bytes(whole)
    each = (time.perf_counter() - began) / count * 1000
    where = f"{count} changes in turn in {len(files)} files, {each:.0f} ms each"
    return Result("archive_byte_changes_detected", missed, "missed", 0, where)


def _value_changes(target: Target, count: int) -> Result:
    chance = random.Random(2)
    with connect(target.on("template1")) as connection:
        connection.execute(f"create database changed template {target.dbname}".encode())
    other = target.on("changed")
    made = set()
    with connect(other) as connection:
        ids = {
            table: [row[0] for row in connection.execute(f"select id from {table}".encode())] for table, _ in CHANGES
        }
        for _number in range(count):
            (table, column), change = chance.choice(list(CHANGES.items()))
            key = ids[table].pop(chance.randrange(len(ids[table])))
            connection.execute(f"update {table} set {column} = {change} where id = {key}".encode())
            made.add((f"public.{table}", column, f"({key})"))
    began = time.perf_counter()
    tables = [one.name for one in compare(take(target), take(other)) if one.kind == "table"]
    found = explain(target, other, tables, limit=count)
    seconds = time.perf_counter() - began
    named = {(one.table, column, row.key) for one in found for row in one.examples for column in row.columns}
    where = f"{count} changes in {', '.join(ids)}, named in {seconds:.1f} s; {len(named - made)} named wrongly"
    return Result("value_changes_named", len(made - named) + len(named - made), "missed", 0, where)


if __name__ == "__main__":
    numbers = measure(*[int(word) for word in sys.argv[1:]])
    merge("snapshot.json", numbers)
    show(numbers)
