"""What Safepoint itself has standing in a database when it is dumped is in no restore; all else is, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_servers import drop_database
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.backup.restoring import restored
from safepoint.backup.snapshot import Instant, take_snapshot
from safepoint.hosts.here import Here
from safepoint.launch.snapshots.comparing import Comparison, comparer
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture import capture
from safepoint.wayback.names import made_by
from safepoint.wayback.twin import feed

LAUNCH = "shop-2.0"
SCHEMA = """
create table item (id int primary key, name text);
create table bare (n int, what text);
create table named (n int not null unique, what text);
create table nobody (n int);
alter table nobody replica identity nothing;
create table whole (n int);
alter table whole replica identity full;
insert into bare values (1, 'a'), (1, 'a'), (null, null);
insert into item values (1, 'a');
create publication shop_events for table item;
comment on publication shop_events is 'made by the shop';
create publication safepoint_of_theirs for table item;
"""


@pytest.fixture
def shop(database: Target) -> Iterator[Target]:
    with connect(database) as connection:
        connection.execute(SCHEMA)
    yield database
    for purpose in ("capture", "between"):
        capture.disarm(database, capture.arm(database, LAUNCH, "auto", purpose=purpose))  # type: ignore[arg-type]
    feed.end(database, LAUNCH)
    drop_database(database.on(f"{database.dbname}_again"))


def snapshot(live: Target, folder: Path, at: Instant | None = None) -> Path:
    take_snapshot(
        live,
        Here("here", folder),
        installation=installation(17),
        folder=folder,
        snapshot_id="s",
        launch_id=LAUNCH,
        at=at,
    )
    return folder / "s"


def differences(before: fingerprint.Fingerprint, target: Target) -> list[str]:
    return [str(one) for one in fingerprint.compare(before, fingerprint.take(target))]


def test_a_snapshot_dumped_under_a_feed_and_captures_restores_to_what_was_there_before_them(
    shop: Target, tmp_path: Path
) -> None:
    before = fingerprint.take(shop)
    capture.arm(shop, LAUNCH, "auto")
    capture.arm(shop, LAUNCH, "triggers", purpose="between")
    with feed.opened(shop, LAUNCH) as now:
        folder = snapshot(shop, tmp_path, Instant(now.lsn, now.snapshot))
    assert differences(before, shop) != []
    prove(folder, scratch_parent=tmp_path / "scratch")
    with restored(folder, scratch_parent=tmp_path / "scratch") as copy:
        assert differences(before, copy.target) == []
    placed = place(folder, shop, f"{shop.dbname}_again")
    assert differences(before, shop.on(placed.database)) == []
    assert any("Safepoint" in note for note in placed.notes)


def test_what_stood_there_during_the_dump_or_stands_there_now_is_no_difference(shop: Target, tmp_path: Path) -> None:
    told: list[Comparison] = []

    def compared(folder: Path) -> Comparison:
        prove(folder, scratch_parent=tmp_path / "scratch", look=comparer(shop, told.append))
        return told[-1]

    capture.arm(shop, LAUNCH, "auto")
    capture.arm(shop, LAUNCH, "triggers", purpose="between")
    with connect(shop) as connection:  # its identity is raised by the event trigger
        connection.execute('create table later (n int); create table "Odd ""one" (n int)')
    with feed.opened(shop, LAUNCH) as now:
        under = snapshot(shop, tmp_path, Instant(now.lsn, now.snapshot))
    assert compared(under).differences == ()
    feed.end(shop, LAUNCH)
    for purpose in ("between", "capture"):
        capture.disarm(shop, capture.arm(shop, LAUNCH, "auto", purpose=purpose))  # type: ignore[arg-type]
    after = compared(under)
    assert after.differences == () and len(after.left_out) >= 3 and "Safepoint's own" in after.lines()[-1]
    bare = snapshot(shop, tmp_path / "bare")
    capture.arm(shop, LAUNCH, "auto")
    with connect(shop) as connection:
        connection.execute("alter table item add extra int")
    assert [(one.kind, one.name) for one in compared(bare).differences if one.kind != "table"] == [
        ("relation", "public.item")
    ]


def test_what_only_looks_like_ours_is_restored_as_it_was(shop: Target, tmp_path: Path) -> None:
    with connect(shop) as connection:
        connection.execute(
            sql.SQL("comment on publication safepoint_of_theirs is {}").format(
                sql.Literal(made_by(LAUNCH, "twin") + "\nbut its state is no state")
            )
        )
        connection.execute("create schema safepoint_capture; create table safepoint_capture.changes (n int)")
    before = fingerprint.take(shop)
    placed = place(snapshot(shop, tmp_path), shop, f"{shop.dbname}_again")
    assert differences(before, shop.on(placed.database)) == []
    with connect(shop) as connection:
        connection.execute("drop schema safepoint_capture cascade; drop publication safepoint_of_theirs")
