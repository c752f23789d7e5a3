"""What a rehearsal concludes from what was seen: times, locks, forecasts, verdicts. Nothing runs here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.django.pending import Pending, PendingMigration, Reversal
from safepoint.rehearsal.changes import ColumnChange, TableChange
from safepoint.rehearsal.checks import judge_disk, judge_rows, judge_window
from safepoint.rehearsal.costs import Cost, Counted, Counts, Key, Share, by_run, by_statement
from safepoint.rehearsal.forecast import MARGIN, Ratio, disk_needed, forecast, together
from safepoint.rehearsal.ground import settings_at_start
from safepoint.rehearsal.invariants import Answer, judge_invariants
from safepoint.rehearsal.observation import MigrationRun, rebuilding
from safepoint.rehearsal.release import judge_caches, judge_release, why_not_started
from safepoint.rehearsal.sampling import MODES, LockSpan, spans
from safepoint.rehearsal.speeds import Io, Parts, Speeds
from safepoint.rehearsal.statements import shown, writes
from safepoint.rehearsal.timeline import Applied, Printed, Stamps, timeline
from safepoint.rehearsal.undo import definition, judge_undo

SHARE, EXCLUSIVE = MODES.index("ShareLock") + 1, MODES.index("AccessExclusiveLock") + 1


def printed(*pieces: tuple[float, str]) -> list[Printed]:
    return [Printed(at, text) for at, text in pieces]


def test_each_migration_lasts_from_its_name_to_its_ok() -> None:
    pieces = printed(
        (0.5, "Operations to perform:\n  Apply all migrations: shop\nRunning migrations:\n"),
        (0.6, "  Applying shop.0001_initial..."),
        (1.6, " OK\n"),
        (1.7, "  Applying shop.0002_price..."),
        (1.9, "half of it is done, OK so far\n"),
        (3.7, " OK\n"),
    )
    first, second = timeline(pieces, 4.0)
    assert (first.label, first.began, first.seconds, first.ok) == ("shop.0001_initial", 0.6, 1.0, True)
    assert (second.label, second.began, second.seconds, second.ok) == ("shop.0002_price", 1.7, 2.0, True)


def test_a_migration_that_prints_like_django_is_not_taken_for_another_one() -> None:
    text = "  Applying a.0001_x...Applying z.0099_fake... OK\n OK\n  Applying a.0002_y... OK\n"
    found = timeline(printed((1.0, text)), 2.0, ["a.0001_x", "a.0002_y"])
    assert [(one.label, one.ok) for one in found] == [("a.0001_x", True), ("a.0002_y", True)]
    assert timeline(printed((1.0, text)), 2.0, []) == ()


def test_names_that_a_projects_own_migrate_cuts_off_and_times_behind_its_ok_are_read() -> None:
    labels = ["circuits.0023_remove_circuittermination_cable_peer_fields", "dcim.0077_device_cluster"]
    text = f"  Applying {labels[0][:50]}... OK        0.40s\n  Applying {labels[1]}...     OK        1.10s\n"
    found = timeline(printed((1.0, text)), 2.0, labels)
    assert [(one.label, one.ok) for one in found] == [(labels[0], True), (labels[1], True)]
    assert timeline(printed((1.0, "  Applying dcim.0077... OK\n")), 2.0, ["dcim.0077_device_cluster"]) == ()


@pytest.mark.parametrize(("low", "high", "verdict"), [(1, 2, "pass"), (1, 90, "warning"), (70, 90, "fail")])
def test_a_window_that_cannot_hold_what_is_foreseen_is_a_no_go(low: float, high: float, verdict: str) -> None:
    assert judge_window(60, low, (low + high) / 2, high).verdict == verdict


def test_a_release_that_does_not_work_on_the_migrated_copy_is_told_by_what_fails() -> None:
    def verdicts(*words: Any) -> list[str]:
        return [check.verdict for check in judge_release("/healthz", *words)]

    assert verdicts([], [], 200, None) == ["pass", "pass", "pass"]
    assert verdicts(["models.E001"], ["a.0002"], 500, "ProgrammingError: no column") == ["fail", "fail", "fail"]
    assert verdicts([], [], 403, None)[2] == "warning" and verdicts([], [], None, "gone")[2] == "fail"


@pytest.mark.parametrize("status", [204, 301, 302])
def test_a_health_page_that_answers_well_and_not_200_fails_for_the_launch_waits_for_200(status: int) -> None:
    page = judge_release("/", [], [], status, None)[2]
    assert page.verdict == "fail" and "the launch waits for 200" in page.summary


def test_an_error_of_the_cache_that_stands_in_is_not_the_releases_own() -> None:
    fault = "AttributeError: 'LocMemCache' object has no attribute 'ttl'"
    assert judge_release("/healthz", [], [], 500, fault)[2].verdict == "warning"


WHOSE = {"default": ("default (Files)", "own"), "sessions": ("sessions (RedisCache)", "shared")}


def test_a_cache_that_the_live_site_shares_is_left_out_and_that_is_said() -> None:
    done = judge_caches({"default": "cleared", "sessions": "private"}, WHOSE, missing=["clear_cache"])
    assert done.verdict == "not rehearsed" and done.found == ("sessions (RedisCache)",)
    assert "proven empty: default (Files)" in done.summary and "RedisCache), which the live site shares" in done.summary
    own = {"default": WHOSE["default"]}
    assert judge_caches({"default": "cleared"}, own).verdict == "pass"
    assert judge_caches({"default": "unreachable"}, own).verdict == "warning"
    assert judge_caches({"default": "kept"}, own).verdict == "fail"
    assert judge_caches({}, {}, fault="ValueError: no").verdict == "fail"
    purge = judge_caches({"default": "cleared"}, own, left=["purge_edge --all"])
    assert purge.verdict == "not rehearsed" and "not run: manage.py purge_edge --all" in purge.summary


def test_a_start_command_that_could_touch_what_is_live_is_not_run_for_a_rehearsal() -> None:
    def why(*start: str, **facts: Any) -> str:
        given = {"here": True, "open_port": True, "shared": [], **facts}
        return why_not_started(start, **given) or ""

    assert why("./app", "start") == ""
    assert "{port}" in why("./app", "start", open_port=False)
    assert "another machine" in why("./app", here=False)
    assert "RedisCache" in why("./app", shared=["sessions (RedisCache)"])
    for start in (("systemctl", "start", "app@8002"), ("sudo", "/usr/bin/docker", "compose", "up", "-d")):
        assert "live database" in why(*start)


def test_output_that_comes_in_one_piece_or_byte_by_byte_names_the_same_migrations() -> None:
    text = "  Applying a.0001_x... OK\n  Applying b.0001_y... OK\n  Applying a.0002_z..."
    whole = timeline(printed((1.0, text)), 5.0)
    single = timeline(printed(*((float(place), one) for place, one in enumerate(text))), 99.0)
    assert [(one.label, one.ok) for one in whole] == [(one.label, one.ok) for one in single]
    assert [one.ok for one in whole] == [True, True, False]
    assert whole[-1].ended == 5.0


def test_a_sink_notes_when_output_came_and_tells_of_each_end() -> None:
    marks: list[int] = []
    times = iter([0.1, 0.4])
    sink = Stamps(lambda: next(times), lambda: marks.append(1))
    assert sink.write(b"  Applying a.0001_x...") == 22
    sink.write(b" OK\n")
    assert [piece.at for piece in sink.pieces] == [0.1, 0.4] and marks == [1]


def test_a_lock_seen_again_and_again_is_one_span_until_it_is_gone_or_stronger() -> None:
    found = spans([(0.0, {7: 2}), (0.1, {7: 2, 8: 3}), (0.2, {7: 8}), (0.3, {7: 8}), (0.4, {})])
    assert found == (LockSpan(7, 2, 0.0, 0.1), LockSpan(8, 3, 0.1, 0.1), LockSpan(7, 8, 0.2, 0.3))


@given(st.lists(st.dictionaries(st.integers(1, 4), st.integers(1, 8)), max_size=30))
def test_spans_of_a_table_never_overlap_and_hold_only_what_was_seen(looks: list[dict[int, int]]) -> None:
    ticks = [(float(at), locks) for at, locks in enumerate(looks)]
    found = spans(ticks)
    for at, locks in ticks:
        for table in range(1, 5):
            holding = [s.strength for s in found if s.table == table and s.began <= at <= s.ended]
            assert holding == ([locks[table]] if table in locks else [])


def test_a_statement_is_shown_without_anybodys_data() -> None:
    text = shown("UPDATE users SET mail = 'anna@example.org', note = 'it''s' WHERE id = 4711 AND n = $x$ secret $x$")
    assert text == "UPDATE users SET mail = …, note = … WHERE id = … AND n = …"


def ratio(live: tuple[float, ...], scratch: tuple[float, ...]) -> Ratio:
    return Ratio("public.t", 100, live, scratch)


def test_a_forecast_grows_with_the_ratio_and_the_data_but_not_the_start_of_django() -> None:
    twice = ratio((0.6, 0.2, 0.2), (0.1, 0.1, 0.1))
    found = forecast(inside=10.0, outside=1.0, ratio=twice, growth=1.5, fixed={"fence": 2.0}, unmeasured=["warm"])
    assert found.migrate.expected == 1.0 + 10.0 * 2.0 * 1.5
    assert found.migrate.low < found.migrate.expected < found.migrate.high
    assert found.migrate.high == pytest.approx((1.0 + 10.0 * 6.0 * 1.5) * (1 + MARGIN))
    assert found.window.expected == found.migrate.expected + 2.0
    assert any("warm" in line for line in found.unknown) and found.rehearsed == ()


def test_load_that_falls_on_both_servers_does_not_move_the_ratio_but_is_told_of() -> None:
    busy = ratio((0.1, 0.1, 0.9, 0.1), (0.1, 0.1, 0.9, 0.1))
    assert busy.warm == pytest.approx(1.0)
    found = forecast(inside=4.0, outside=0.0, ratio=busy, growth=1.0, fixed={})
    assert any("was busy" in line for line in found.unknown)


def test_a_scratch_server_that_was_slow_only_while_it_migrated_is_corrected_for() -> None:
    found = together(ratio((0.1, 0.1), (0.2, 0.2)), ratio((0.1, 0.1), (0.2, 0.2)))
    assert found is not None and found.warm == pytest.approx(0.5) and len(found.live) == 4
    assert together(None, found) is found and together(found, None) is found


def test_no_measurement_makes_the_live_server_many_times_as_fast_as_the_copys() -> None:
    found = ratio((0.01, 0.01, 0.01), (0.5, 0.5, 0.5))
    assert found.warm == found.cold == 0.25


def test_a_forecast_without_a_measurement_says_so() -> None:
    found = forecast(inside=1.0, outside=0.5, ratio=None, growth=0.9, fixed={})
    assert found.migrate.expected == 1.5 and "taken as equal" in found.unknown[0]


def test_each_part_of_a_migrations_time_is_corrected_by_its_own_ratio() -> None:
    own = Io(sync_seconds=2.0, syncs=100, write_seconds=1.0)
    speeds = Speeds((0.3, 0.3), (0.1, 0.1), own, live_sync=0.080, scratch_sync=0.020)
    assert (speeds.write, speeds.sync, speeds.parts(10.0)) == (3.0, 4.0, Parts(0.0, 7.0, 1.0, 2.0))
    even = ratio((0.1, 0.1), (0.1, 0.1))
    found = forecast(inside=10.0, outside=1.0, ratio=even, growth=1.0, fixed={}, speeds=speeds)
    assert found.migrate.expected == 1.0 + 7.0 + 1.0 * 3.0 + 2.0 * 4.0
    assert not any("not corrected" in line for line in found.unknown)
    # What is not known goes by the scans, and is said with the seconds that it is about.
    blind = replace(speeds, live_sync=None)
    untimed = forecast(inside=10.0, outside=1.0, ratio=even, growth=1.0, fixed={}, speeds=blind)
    assert untimed.migrate.expected == 1.0 + 7.0 + 3.0 + 2.0
    (line,) = [one for one in untimed.unknown if "syncs its log" in one]
    assert "2.0 s of 10.0 s" in line and "track_wal_io_timing" in line and "20.0 s, which the range allows for" in line
    assert untimed.migrate.high == (1.0 + 7.0 + 3.0 + 20.0) * (1 + MARGIN)
    # A scratch server that syncs in no time says nothing about the disk that its log will be written to.
    log = forecast(inside=10.0, outside=1.0, ratio=even, growth=1.0, fixed={}, speeds=Speeds(), log=2 * GB)
    assert log.migrate.high == pytest.approx((1.0 + 10.0 + 2048 / 40) * (1 + MARGIN))
    # The log may be synced by others, for longer than the migration took.
    assert Speeds(own=Io(50.0, 100, 9.0)).parts(4.0) == Parts(0.0, 0.0, 0.0, 4.0)


def test_a_slow_sync_is_paid_once_a_sync_and_not_by_the_bytes_that_it_syncs() -> None:
    own = Io(sync_seconds=2.0, syncs=10, write_seconds=0.0)
    speeds = Speeds(own=own, live_sync=0.021, scratch_sync=0.001)
    assert speeds.sync == 20.0 and speeds.synced(10.0) == pytest.approx(2.0 + 10 * 0.020)
    even = ratio((0.1, 0.1), (0.1, 0.1))
    found = forecast(inside=10.0, outside=0.0, ratio=even, growth=1.0, fixed={}, speeds=speeds, log=2 * GB)
    assert found.migrate.expected == pytest.approx(10.2)
    assert found.migrate.high == pytest.approx((8.0 + 2048 / 40) * (1 + MARGIN))
    assert any("2048 MB of log" in line and "51.2 s" in line for line in found.unknown), found.unknown


def test_what_the_application_does_itself_is_as_fast_as_here_whatever_the_live_server_is() -> None:
    own = Io(sync_seconds=1.0, syncs=600, write_seconds=0.0, active_seconds=4.0)
    speeds = Speeds(own=own, live_sync=0.02, scratch_sync=0.02)
    assert speeds.parts(10.0) == Parts(6.0, 3.0, 0.0, 1.0)
    slow = ratio((0.3, 0.3), (0.1, 0.1))
    found = forecast(inside=10.0, outside=1.0, ratio=slow, growth=1.0, fixed={}, speeds=speeds)
    assert found.migrate.expected == pytest.approx(1.0 + 6.0 + 3.0 * 3.0 + 1.0)
    assert replace(own, active_seconds=99.0).since(Io(0, 0, 0, 1.0)).active_seconds == 98.0


@given(st.floats(0, 1e5), st.floats(0, 100), st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.1, 10))
def test_a_range_is_always_in_order(inside: float, outside: float, live: float, scratch: float, growth: float) -> None:
    found = forecast(inside=inside, outside=outside, ratio=ratio((live,), (scratch,)), growth=growth, fixed={})
    for one in (found.migrate, found.window):
        assert 0 <= one.low <= one.expected <= one.high


GB = 1024**3


def test_a_disk_that_cannot_hold_the_peak_with_the_twin_is_a_no_go() -> None:
    disk = disk_needed(peak=2 * GB, log=GB, twin=5 * GB, growth=2.0, free=8 * GB)
    assert disk.parts == {"migrate": 4 * GB, "write-ahead log": 2 * GB, "twin": 5 * GB} and disk.needed == 11 * GB

    def verdict(free: int | None) -> str:
        return judge_disk(disk.needed, free, disk.parts, MARGIN).verdict

    assert [verdict(8 * GB), verdict(12 * GB), verdict(20 * GB), verdict(None)] == [
        "fail",
        "warning",
        "pass",
        "warning",
    ]
    assert "twin" not in disk_needed(peak=1, log=0, twin=0, growth=0.5, free=1).parts


def test_a_log_that_the_live_server_may_keep_is_needed_whole_and_it_is_said_who_keeps_it() -> None:
    disk = disk_needed(peak=GB, log=GB, twin=0, growth=2.0, free=None, written=7 * GB, keeper="the slot standby")
    assert disk.parts == {"migrate": 2 * GB, "write-ahead log (the slot standby may keep all of it)": 14 * GB}
    recycled = disk_needed(peak=GB, log=GB, twin=0, growth=1.0, free=None, written=7 * GB)
    assert recycled.parts["write-ahead log"] == GB
    few = disk_needed(peak=GB, log=GB, twin=0, growth=1.0, free=None, written=1, keeper="the archiver")
    assert GB in few.parts.values() and few.needed == 2 * GB


def counted(*shares: tuple[float, dict[Key, Counts]]) -> Counted:
    texts = {1: "UPDATE t SET a = $1", 2: "SELECT 1", 3: "ALTER TABLE t ADD b int"}
    return Counted(tuple(Share(at, counts) for at, counts in shares), texts)


def test_what_was_counted_between_two_looks_is_the_migrations_that_ended_then() -> None:
    runs = (Applied("a.0001_x", 0.5, 1.0, True), Applied("a.0002_y", 1.0, 3.0, True))
    seen = counted(
        (1.01, {(1, True): Counts(10, 0.2, 10, 1_000), (2, True): Counts(1, 0.1, 99)}),
        (3.02, {(1, False): Counts(5, 0.1, 5, 500), (3, True): Counts(1, 2.0, 0, 9_000, 8_192)}),
        (4.0, {(1, True): Counts(1, 0.0, 1, 10)}),
    )
    found = by_run(seen, runs)
    assert (found["a.0001_x"].rows, found["a.0001_x"].wal_bytes) == (10, 1_000)
    # What a trigger wrote are rows, too; its log is in the statement's that called it.
    assert (found["a.0002_y"].rows, found["a.0002_y"].wal_bytes, found["a.0002_y"].temporary_bytes) == (5, 9_000, 8_192)
    assert found[""].rows == 1
    altered, updated, read = by_statement(seen, runs)
    assert altered.text == "ALTER TABLE t ADD b int" and altered.migrations == ("a.0002_y",)
    assert updated.text == "UPDATE t SET a = …" and (updated.calls, updated.rows) == (11, 11) and read.rows == 0


def test_what_a_migration_rebuilt_is_told_by_the_statement_that_did_it() -> None:
    def cost(text: str, wal: int, migration: str = "a.0002_y") -> Cost:
        return Cost(text, 1, 0.1, 0, wal, 0, (migration,))

    run = MigrationRun("a.0002_y", 0.0, 1.0, True, 9, ("public.entry → public.posting",), ())
    run = replace(run, indexes=("by_date on public.posting", "once on public.posting"))
    texts = {
        'ALTER TABLE "entry" ALTER COLUMN "memo" TYPE varchar(9)': 90_000,
        'ALTER TABLE "entry" ADD COLUMN "note" text NULL': 800,
        'ALTER TABLE "entry" RENAME TO "posting"': 700,
        'CREATE INDEX "by_date" ON "posting" ("date")': 50_000,
        'ALTER TABLE "posting" ADD CONSTRAINT "once" UNIQUE ("date")': 40_000,
        'UPDATE "posting" SET "by_date" = …': 99_000,
    }
    found = rebuilding([cost(text, wal) for text, wal in texts.items()], [run])
    assert [one.rewrites for one in found] == [("public.entry → public.posting",), (), (), (), (), ()]
    built = [(), (), (), ("by_date on public.posting",), ("once on public.posting",), ()]
    assert [one.indexes for one in found] == built
    # The same statement in a migration that rewrote nothing.
    (other,) = rebuilding([cost('ALTER TABLE "entry" ADD COLUMN "a" int', 90_000, "a.0001_x")], [run])
    assert other.rewrites == other.indexes == ()


@pytest.mark.parametrize(
    ("text", "wrote"),
    [
        ("/* by the orm */ insert into t values ($1)", True),
        ("WITH old AS (SELECT 1) UPDATE t SET a = 1", True),
        ("with x as (select 1) select * from x", False),
        ("COPY t (a, b) FROM STDIN", True),
        ("COPY t TO STDOUT", False),
        ("create table u as select 1", True),
        ("SELECT updated FROM t", False),
        ("ALTER TABLE t ADD a int", False),
    ],
)
def test_rows_that_a_statement_wrote_are_told_from_those_it_read(text: str, wrote: bool) -> None:
    assert writes(text) is wrote


def answer(rows: int, shown: str, error: str | None = None) -> Answer:
    return Answer(rows, shown, shown.rjust(32, "0"), error)


def test_an_invariant_holds_only_where_both_answers_are_there_and_equal() -> None:
    before = {"same": answer(1, "5"), "moved": answer(1, "5"), "empty": answer(0, ""), "broken": answer(1, "5")}
    after = {"same": answer(1, "5"), "moved": answer(1, "6"), "empty": answer(0, ""), "broken": answer(0, "", "no x")}
    verdicts = {check.name: check.verdict for check in judge_invariants(before, after)}
    assert verdicts == {"same": "pass", "moved": "fail", "empty": "fail", "broken": "fail"}


def test_a_table_with_fewer_rows_than_before_is_a_warning_and_more_are_told() -> None:
    def rows(name: str, before: int, after: int) -> TableChange:
        return TableChange(f"public.{name}", f"public.{name}", before, after, 0, 0, ())

    gone = TableChange("public.old", None, 5, 0, 0, 5, ())
    fine = judge_rows([rows("a", 3, 3), rows("b", 2, 4), gone])
    assert (fine.verdict, fine.summary) == ("pass", "1 table has as many rows as before; more: public.b +2")
    lost = judge_rows([rows("a", 3, 1)])
    assert (lost.verdict, lost.found) == ("warning", ("public.a: 3 → 1",))
    assert judge_rows([gone]).verdict == "warning"


def test_another_order_of_columns_is_the_same_definition_and_another_type_is_not() -> None:
    assert definition("relation", "t", "table\na int\nb text", "table\nb text\na int") is None
    assert definition("relation", "t", "table\na int", "table\na bigint") == "relation t: was a int, is a bigint"
    assert definition("index", "i", "on a", None) == "index i is gone"
    assert definition("index", "i", None, "on a") == "index i stayed behind"


def table(name: str, *columns: ColumnChange, added: int = 0, removed: int = 0) -> TableChange:
    return TableChange(name, name, 3, 3 + added - removed, added, removed, columns)


SAME = ColumnChange("identical", "a", "a", "int", "int")
OTHER = ColumnChange("re-expressed", "b", "b", "text", "text", 3)


def test_undoing_is_exact_only_where_every_table_came_back() -> None:
    whole = judge_undo(Reversal(None, None, (), 1.0, ""), [table("t", SAME)], [])
    assert whole.verdict == "exact" and whole.tables[0].lost == ()
    part = judge_undo(Reversal(None, None, (), 1.0, ""), [table("t", SAME, OTHER), table("u", SAME, added=2)], [])
    assert part.verdict == "loses"
    added = ColumnChange("re-expressed", None, "c", None, "text", 3)
    (table_of_it,) = judge_undo(Reversal(None, None, (), 1.0, ""), [table("t", added)], []).tables
    assert table_of_it.lost == ("c: other values than before",)
    assert [one.lost for one in part.tables] == [("b: other values than before",), ("2 rows stayed behind",)]


def test_undoing_that_raised_or_left_migrations_applied_fails() -> None:
    raised = judge_undo(Reversal("IrreversibleError: no", "a.0002", ("a.0002",), 1.0, ""), [], [])
    assert (raised.verdict, raised.migration) == ("fails", "a.0002")
    assert judge_undo(Reversal(None, None, ("a.0002",), 1.0, ""), [], []).verdict == "fails"


def test_the_migrations_digest_changes_with_a_file_and_with_the_order() -> None:
    def pending(*contents: str) -> str:
        return Pending("x", (), tuple(PendingMigration(f"a.{c}", c, True, True, ()) for c in contents)).digest

    assert pending("1", "2") == pending("1", "2")
    assert len({pending("1", "2"), pending("2", "1"), pending("1"), pending("1", "3")}) == 4


def test_the_scratch_server_is_started_like_the_live_one_within_its_memory() -> None:
    live = {"wal_level": "logical", "shared_buffers": "64GB"}
    assert settings_at_start(live, 4 * 1024**3) == {"wal_level": "logical", "shared_buffers": f"{1024**2}kB"}
    assert settings_at_start({**live, "shared_buffers": "16MB"}, 2**33)["shared_buffers"] == "16384kB"
    assert settings_at_start({}, 2**33) == {}
