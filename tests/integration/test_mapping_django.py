"""The demo's launch from 1.0 to 2.0 and the way back of its rows: mapping, round trip, replay, on the real releases."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from loaded_django import python
from postgres_servers import drop_database, fresh_database
from psycopg import sql
from replay_ground import ask

from safepoint.backup import fingerprint
from safepoint.config import Release
from safepoint.config.wayback import Wayback
from safepoint.django.managepy import Manage
from safepoint.django.operations import Operations, read_operations
from safepoint.hosts.here import Here
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm, drain
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

DEMO = Path(__file__).parents[2] / "demo"
LAUNCH = "accounting-2.0"

# What people do on 2.0, by the release's own models.
WORK = """
from decimal import Decimal
from django.contrib.admin.models import LogEntry, CHANGE
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone
from ledger.models import Account, JournalEntry, Posting, Tag
from users.models import UserProfile
user = get_user_model().objects.create_user("launched", password="x")
UserProfile.objects.create(user=user, full_name="Lau Nched", department="IT", locale="de-DE", joined=timezone.now())
cash, sales = Account.objects.order_by("code")[:2]
tag = Tag.objects.get(name="audit")
for number in range(1, 41):
    with transaction.atomic():
        entry = JournalEntry.objects.create(user=user, booked_on="2026-03-01", memo=f"on 2.0, {number}", currency="EUR")
        entry.tags.add(tag)
        Posting.objects.create(entry=entry, account=cash, amount_cents=number * 101)
        Posting.objects.create(entry=entry, account=sales, amount_cents=-number * 101)
Account.objects.filter(pk=cash.pk).update(is_open=False)
profile = UserProfile.objects.order_by("pk").first()
profile.full_name = "Renamed On Two"
profile.save()
first = JournalEntry.objects.order_by("pk").first()
first.memo = "corrected on 2.0"
first.save()
with transaction.atomic():
    first.lines.update(amount_cents=-1 * __import__("django").db.models.F("amount_cents"))
JournalEntry.objects.filter(memo="on 2.0, 7").delete()
JournalEntry.objects.order_by("pk")[1].delete()
log = lambda model, text: LogEntry.objects.create(user=user, action_flag=CHANGE, object_repr=text,
    content_type=ContentType.objects.get_for_model(model), action_time=timezone.now())
log(Posting, "a posting"); log(Tag, "a tag"); log(JournalEntry, "an entry")
user.user_permissions.add(Permission.objects.get(codename="add_posting"))
user.user_permissions.add(Permission.objects.get(codename="view_journalentry"))
"""
POST_ON_1 = """
from decimal import Decimal
from django.db import transaction
from django.db.models import Sum
from django.contrib.auth import get_user_model
from ledger.models import Account, JournalEntry, JournalLine
cash, sales = Account.objects.order_by("code")[:2]
with transaction.atomic():
    entry = JournalEntry.objects.create(user=get_user_model().objects.first(), date="2026-03-02", memo="on 1.0 again")
    JournalLine.objects.create(entry=entry, account=cash, debit=Decimal("1.50"))
    JournalLine.objects.create(entry=entry, account=sales, credit=Decimal("1.50"))
print("entry", entry.pk, JournalLine.objects.aggregate(d=Sum("debit"), c=Sum("credit")))
"""


@dataclass(frozen=True)
class Site:
    """The site's database, migrated; and the twin as it was at the safe point."""

    live: Target
    twin: Target
    folder: Path
    operations: Operations
    mapping: WayBack

    def manage(self, release: str, target: Target) -> Manage:
        return manage(self.folder, release, target)


def manage(folder: Path, release: str, target: Target) -> Manage:
    env = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": "only-for-tests",
        "ACCOUNTING_STATE": str(folder / "site"),
        "ACCOUNTING_DEMO_PASSWORD": "only-for-tests",
        "ACCOUNTING_PASSWORD_ITERATIONS": "1",
    }
    words = Release(
        version=release,
        manage=(python(), "src/manage.py"),
        start=("true",),
        stop=("true",),
        upstream="127.0.0.1:1",
    )
    directory = str(DEMO / "accounting" / f"release-{release}")
    return Manage(Here("here", folder), words, env, {"DATABASE_URL": target.url()}, directory)


@pytest.fixture(scope="module")
def site(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    live, folder = fresh_database(server), tmp_path_factory.mktemp("site")
    twin = live.on(f"{live.dbname}_twin")
    try:
        manage(folder, "1.0", live).run("migrate", "-v", "0")
        manage(folder, "1.0", live).run("seed", "--lines", "600")
        with connect(live) as connection:  # what a rounding and a removal would lose
            connection.execute(
                "update ledger_account set budget = 1234.5678 where id = (select min(id) from ledger_account)"
            )
            connection.execute("update ledger_journalentry set legacy_number = id where id % 3 = 0")
        with connect(live.on("postgres")) as connection:
            names = {"new": sql.Identifier(twin.dbname), "old": sql.Identifier(live.dbname)}
            connection.execute(sql.SQL("create database {new} template {old}").format(**names))
        found = read_operations(manage(folder, "2.0", live))
        manage(folder, "2.0", live).run("migrate", "-v", "0")
        assert read_operations(manage(folder, "2.0", live), found.migrations) == found
        plan = tomllib.loads((DEMO / "launch.toml").read_text())
        with connect(twin) as old, connect(live) as new:
            mapping = plan_mapping(read_catalogue(old), read_catalogue(new), found, Wayback(**plan["wayback"]).mappers)
        yield Site(live, twin, folder, found, mapping)
    finally:
        drop_database(twin)
        drop_database(live)


def test_each_column_says_where_it_comes_from(site: Site) -> None:
    lines = {(line.table, line.column): line for line in site.mapping.lines()}
    kinds = {
        ("ledger_journalentry", "date"): ("renamed", 'new."booked_on"'),
        ("ledger_journalentry", "memo"): ("retyped", 'new."memo"::character varying(200)'),
        ("ledger_journalentry", "currency"): ("stashed", ""),
        ("ledger_journalline", "debit"): ("mapped", "(greatest(amount_cents, 0) / 100.0)"),
        ("users_userprofile", "display_name"): ("renamed", 'new."full_name"'),
        ("ledger_tag", "*"): ("stashed", ""),
        ("django_migrations", "*"): ("kept", ""),
        ("django_session", "session_data"): ("same", 'new."session_data"'),
    }
    assert {place: (lines[place].kind, lines[place].value) for place in kinds} == kinds
    assert lines["ledger_journalentry", "legacy_number"].kind == "restored"
    assert lines["django_admin_log", "content_type_id"].kind == "remapped"
    assert lines["ledger_journalentry", "date"].source == (
        "ledger.0003_entry_fields: Rename field date on journalentry to booked_on"
    )
    assert lines["ledger_journalline", "id"].source == "same in both catalogues"
    assert site.mapping.problems == () and site.mapping.models == {"ledger.posting": "ledger.journalline"}
    assert WayBack.from_json(json.loads(json.dumps(site.mapping.as_json()))) == site.mapping
    assert Operations.from_json(json.loads(json.dumps(site.operations.as_json()))) == site.operations


def test_without_the_plans_mapper_the_amounts_are_a_problem_that_is_named(site: Site) -> None:
    with connect(site.twin) as old, connect(site.live) as new:
        bare = plan_mapping(read_catalogue(old), read_catalogue(new), site.operations)
    assert [problem.partition(" ")[0] for problem in bare.problems] == [
        "ledger_journalline.debit",
        "ledger_journalline.credit",
    ]


def test_the_round_trip_gives_every_old_row_and_finds_a_wrong_mapper(site: Site) -> None:
    trip = round_trip(site.twin, site.live, site.mapping)
    assert trip.whole and doubtful(site.mapping, trip) == ()
    assert sum(table.rows for table in trip.tables) > 1000
    wrong = {"ledger_journalline": {"debit": "amount_cents / 100.0", "credit": "greatest(-amount_cents, 0) / 100.0"}}
    with connect(site.twin) as old, connect(site.live) as new:
        mapping = plan_mapping(read_catalogue(old), read_catalogue(new), site.operations, wrong)
    trip = round_trip(site.twin, site.live, mapping)
    (line,) = [table for table in trip.tables if not table.whole]
    count = ask(site.twin, "select count(*) from ledger_journalline where credit > 0")[0][0]
    assert line.columns == {"debit": count} and line.sample[0].expected == "0.00"
    assert str(line.sample[0].found).startswith("-")
    assert doubtful(mapping, trip) == (f"ledger_journalline.debit: {count} values do not come back",)


def test_every_row_touched_on_2_0_comes_back_with_the_old_fingerprint(site: Site, tmp_path: Path) -> None:
    before = fingerprint.take(site.twin).tables
    facts = arm(site.live, LAUNCH)
    with connect(site.live) as connection:
        for rule in site.mapping.tables:
            table = sql.Identifier(*rule.new.split(".", 1))
            column = sql.Identifier(rule.key[0][1])
            connection.execute(sql.SQL("update {} set {} = {}").format(table, column, column))
    drain(site.live, facts, tmp_path / "spool")
    disarm(site.live, facts)
    done = replay(site.twin, site.live, tmp_path / "spool", site.mapping, launch_id=LAUNCH, out=tmp_path)
    assert done.put_aside == 0 and sum(table.updated for table in done.tables) > 1000
    after = {name: found for name, found in fingerprint.take(site.twin).tables.items() if "safepoint." not in name}
    assert after == before


def test_what_people_did_on_2_0_stands_in_the_tables_of_1_0(site: Site, tmp_path: Path) -> None:
    facts = arm(site.live, LAUNCH)
    site.manage("2.0", site.live).run("shell", "-v", "0", "-c", WORK)
    drain(site.live, facts, tmp_path / "spool")
    disarm(site.live, facts)
    done = replay(site.twin, site.live, tmp_path / "spool", site.mapping, launch_id=LAUNCH, out=tmp_path)
    amounts = (
        "select e.memo, greatest(p.amount_cents, 0) / 100.0, greatest(-p.amount_cents, 0) / 100.0 "
        "from ledger_posting p join ledger_journalentry e on e.id = p.entry_id"
    )
    lines = "select e.memo, l.debit, l.credit from ledger_journalline l join ledger_journalentry e on e.id = l.entry_id"
    assert sorted(ask(site.twin, lines)) == sorted(ask(site.live, amounts))
    assert ask(site.twin, "select count(*) from ledger_journalentry where memo like 'on 2.0%'") == [(39,)]
    assert ask(site.twin, "select budget::text, is_open from ledger_account order by code limit 1") == [
        ("1234.5678", False)
    ]
    legacy = "select count(*) from ledger_journalentry where legacy_number = id"
    assert ask(site.twin, legacy)[0][0] >= 80
    assert ask(site.twin, "select object_repr from django_admin_log order by 1") == [("a posting",), ("an entry",)]
    assert [(one.table, one.kind) for one in done.aside] == [("public.django_admin_log", "foreign key")]
    assert (done.partly, done.not_carried, done.aside[0].action) == (0, 0, "insert")
    rights = (
        "select codename from auth_user_user_permissions u join auth_permission p on p.id = u.permission_id order by 1"
    )
    assert ask(site.twin, rights) == [("add_journalline",), ("view_journalentry",)]

    stash = [json.loads(line) for line in (tmp_path / "stash.jsonl").read_text().splitlines()]
    assert sum(one["relation"] == "public.ledger_journalentry_tags" for one in stash) >= 39
    assert {one["values"]["locale"] for one in stash if one["relation"] == "public.users_userprofile"} >= {"de-DE"}

    old = site.manage("1.0", site.twin)
    old.run("migrate", "--check")
    said = old.run("shell", "-v", "0", "-c", POST_ON_1).stdout
    highest = ask(site.live, "select max(id) from ledger_journalentry")[0][0]
    assert int(said.split()[1]) > highest and "Decimal" in said
    (sums,) = ask(site.twin, "select sum(debit) = sum(credit) from ledger_journalline")
    assert sums == (True,)
