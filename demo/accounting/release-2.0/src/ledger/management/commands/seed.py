"""`manage.py seed --lines N`: users, a chart of accounts and two years of journal entries.

All values are computed from `--seed`, so that two runs make the same rows. The journal is made by the database
itself, set-wise: 200,000 lines take a few seconds.
"""

from __future__ import annotations

import os
from datetime import date, timedelta
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from ledger.models import Account, JournalEntry, Posting
from users.models import UserProfile

ASSET, LIABILITY, EQUITY, INCOME, EXPENSE = Account.Kind.values

ACCOUNTS = [
    ("1000", "Bank, current account", ASSET, 0),
    ("1010", "Bank, savings", ASSET, 0),
    ("1020", "Petty cash", ASSET, 0),
    ("1200", "Trade receivables", ASSET, 0),
    ("1300", "Input VAT", ASSET, 0),
    ("1400", "Inventory", ASSET, 0),
    ("1500", "Machinery", ASSET, 0),
    ("1510", "Vehicles", ASSET, 0),
    ("1520", "Office equipment", ASSET, 0),
    ("2000", "Trade payables", LIABILITY, 0),
    ("2100", "Output VAT", LIABILITY, 0),
    ("2200", "Wages payable", LIABILITY, 0),
    ("2300", "Bank loan", LIABILITY, 0),
    ("3000", "Share capital", EQUITY, 0),
    ("3100", "Retained earnings", EQUITY, 0),
    ("4000", "Sales, domestic", INCOME, 0),
    ("4010", "Sales, abroad", INCOME, 0),
    ("4100", "Consulting", INCOME, 0),
    ("4200", "Interest received", INCOME, 0),
    ("5000", "Goods purchased", EXPENSE, "4200000.00"),
    ("6000", "Wages and salaries", EXPENSE, "3900000.00"),
    ("6100", "Rent", EXPENSE, "180000.00"),
    ("6200", "Electricity and heating", EXPENSE, "96000.50"),
    ("6300", "Insurance", EXPENSE, "44000.25"),
    ("6400", "Travel", EXPENSE, "61500.00"),
    ("6500", "Advertising", EXPENSE, "120000.00"),
    ("6600", "Software and hosting", EXPENSE, "88000.75"),
    ("6700", "Repairs", EXPENSE, "35000.00"),
    ("6800", "Bank charges", EXPENSE, "9000.00"),
    ("6900", "Depreciation", EXPENSE, "150000.00"),
]

# (kind, position, memo, account, part of the amount, side). Every fifth entry is one with VAT and three lines.
OPENING = [
    (9, 1, "Capital paid in by", "1000", "net", "debit"),
    (9, 2, "Capital paid in by", "3000", "net", "credit"),
]
WITH_VAT = [
    (0, 1, "Invoice", "1200", "gross", "debit"),
    (0, 2, "Invoice", "4000", "net", "credit"),
    (0, 3, "Invoice", "2100", "tax", "credit"),
    (1, 1, "Goods from", "5000", "net", "debit"),
    (1, 2, "Goods from", "1300", "tax", "debit"),
    (1, 3, "Goods from", "2000", "gross", "credit"),
]
PLAIN = [
    (2, 1, "Payment by", "1000", "net", "debit"),
    (2, 2, "Payment by", "1200", "net", "credit"),
    (3, 1, "Paid to", "2000", "net", "debit"),
    (3, 2, "Paid to", "1000", "net", "credit"),
    (4, 1, "Wages,", "6000", "net", "debit"),
    (4, 2, "Wages,", "1000", "net", "credit"),
    (5, 1, "Consulting for", "1000", "net", "debit"),
    (5, 2, "Consulting for", "4100", "net", "credit"),
    (6, 1, "Hosting,", "6600", "net", "debit"),
    (6, 2, "Hosting,", "1000", "net", "credit"),
    (7, 1, "Travel to", "6400", "net", "debit"),
    (7, 2, "Travel to", "1000", "net", "credit"),
    (8, 1, "Export to", "1200", "net", "debit"),
    (8, 2, "Export to", "4010", "net", "credit"),
]
PARTNERS = [
    "Alder & Finch", "Brightwater Mills", "Café Zoë", "Dune Optics", "Elm Street Bakery", "Fairlight Studio",
    "Granite Works", "Harbour Foods", "Iron Lane Cycles", "Juniper Press", "Kestrel Tools", "Løvstad Timber",
]  # fmt: skip
FIRST = ["Ada", "Bruno", "Clara", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Keiko", "Liam", "Mara"]
LAST = ["Adler", "Berg", "Castro", "Dubois", "Egede", "Fontana", "Green", "Horvath", "Ito", "Jensen", "Kowalski"]
DEPARTMENTS = ["Accounts payable", "Accounts receivable", "Controlling", "Purchasing", "Sales", "Payroll"]
FIRST_DAY, DAYS = date(2024, 3, 1), 729

# The amount of an entry is 5.00 to 2,505.00 before tax (a fifth of that for running costs), in whole cents, so that
# the three parts always add up. The first entry is the capital that the company starts with.
PLAN_ENTRIES = """
CREATE TEMPORARY TABLE seed_entry ON COMMIT DROP AS
SELECT
    id, hash, h1, h2, kind, first_day + ((id - 1)::bigint * %(days)s / %(entries)s)::int AS day,
    net, net * 19 / 100 AS tax
FROM (
    SELECT
        id, hash, h1, h2, kind, first_day,
        CASE WHEN kind = 9 THEN 25000000 WHEN kind IN (4, 6, 7) THEN net / 5 ELSE net END AS net
    FROM (
        SELECT
            id, hash, h1, h2, net, first_day,
            CASE WHEN id = 1 THEN 9 WHEN id %% 5 = 2 THEN h2 %% 2 ELSE 2 + h2 %% 7 END AS kind
        FROM (
            SELECT
                id, hash, %(first_day)s::date AS first_day,
                ('x' || substr(hash, 1, 7))::bit(28)::int AS h1,
                ('x' || substr(hash, 8, 7))::bit(28)::int AS h2,
                500 + ('x' || substr(hash, 15, 7))::bit(28)::int %% 250000 AS net
            FROM (
                SELECT id, md5(%(seed)s::text || ':' || id) AS hash FROM generate_series(1, %(entries)s) AS id
            ) AS made
        ) AS drawn
    ) AS sorted
) AS priced
"""
PLAN_LINES = """
CREATE TEMPORARY TABLE seed_line (kind int, position int, memo text, account text, part text, side text)
ON COMMIT DROP
"""
INSERT_ENTRIES = """
INSERT INTO ledger_journalentry (id, reference, user_id, booked_on, memo, currency, posted_at)
SELECT
    e.id, e.hash::uuid, (%(users)s::int[])[1 + e.h1 %% cardinality(%(users)s::int[])], e.day,
    l.memo || ' ' || (%(partners)s::text[])[1 + e.h2 / 7 %% cardinality(%(partners)s::text[])]
        || ', no. ' || 10000 + e.id,
    'EUR',
    e.day + time '08:00' + make_interval(secs => e.h1 %% 36000)
FROM seed_entry e JOIN seed_line l ON l.kind = e.kind AND l.position = 1
ORDER BY e.id
"""
INSERT_LINES = """
INSERT INTO ledger_posting (entry_id, account_id, amount_cents, note)
SELECT
    id, account_id,
    CASE side WHEN 'debit' THEN cents ELSE -cents END,
    CASE WHEN id %% 7 = 0 THEN 'Checked against the statement' ELSE '' END
FROM (
    SELECT
        e.id, a.id AS account_id, l.side, l.position,
        CASE l.part WHEN 'net' THEN e.net WHEN 'tax' THEN e.tax ELSE e.net + e.tax END AS cents
    FROM seed_entry e JOIN seed_line l USING (kind) JOIN ledger_account a ON a.code = l.account
) AS planned
ORDER BY id, position
"""
# The trigger looks at one entry after the other; here all are looked at by one query instead.
UNBALANCED = "SELECT entry_id FROM ledger_posting GROUP BY entry_id HAVING sum(amount_cents) <> 0 LIMIT 1"


class Command(BaseCommand):
    help = "Fill an empty database with users, accounts and journal entries."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--lines", type=int, default=200_000, help="journal lines, at least (200000)")
        parser.add_argument("--users", type=int, default=200, help="user0001, user0002, ... (200)")
        parser.add_argument("--seed", type=int, default=42, help="other numbers make other amounts and partners")

    def handle(self, *args: Any, lines: int, users: int, seed: int, **options: Any) -> None:
        password = os.environ.get("ACCOUNTING_DEMO_PASSWORD")
        if not password:
            raise CommandError("Set ACCOUNTING_DEMO_PASSWORD: the password of `demo` and of all the other users.")
        if lines < 0 or users < 1:
            raise CommandError("--lines must not be negative, --users at least 1.")
        if JournalEntry.objects.exists():
            self.stdout.write(f"The journal has {Posting.objects.count()} lines already: nothing was done.")
            return
        with transaction.atomic():
            everyone = _make_users(users, password)
            Account.objects.bulk_create(
                (Account(code=code, name=name, kind=kind, budget=budget) for code, name, kind, budget in ACCOUNTS),
                ignore_conflicts=True,
            )
            _make_journal(lines, everyone, seed)
        # Each on its own, after the commit: the planner knows the tables before the first visitor comes.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        self.stdout.write(
            f"{len(everyone)} users, {Account.objects.count()} accounts, "
            f"{JournalEntry.objects.count()} entries, {Posting.objects.count()} lines"
        )


def _make_users(count: int, password: str) -> list[int]:
    """Make `demo` (staff) and the numbered users, all with one password hashed once; give their ids."""
    hashed = make_password(password)
    joined = FIRST_DAY - timedelta(days=30)
    users = [User(username="demo", password=hashed, email="demo@example.com", is_staff=True, is_superuser=True)]
    users += [
        User(username=f"user{n:04d}", password=hashed, email=f"user{n:04d}@example.com") for n in range(1, count + 1)
    ]
    User.objects.bulk_create(users, ignore_conflicts=True)
    by_name = {user.username: user for user in User.objects.filter(username__in=[u.username for u in users])}
    made = [by_name[user.username] for user in users]
    UserProfile.objects.bulk_create(
        (
            UserProfile(
                user=user,
                full_name="Demo Keeper" if n == 0 else f"{FIRST[n % 13]} {LAST[n % 11]}",
                department=DEPARTMENTS[n % 6],
                joined=joined + timedelta(days=n % 30),
            )
            for n, user in enumerate(made)
        ),
        ignore_conflicts=True,
    )
    return [user.pk for user in made]


def _make_journal(lines: int, users: list[int], seed: int) -> None:
    if not lines:
        return
    # Five entries in a row have eleven lines; the last ones may be a line short of that.
    entries = -(-(lines + 1) * 5 // 11)
    values = {
        "entries": entries,
        "seed": seed,
        "users": users,
        "partners": PARTNERS,
        "first_day": FIRST_DAY,
        "days": DAYS,
    }
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_posting DISABLE TRIGGER ledger_balance")
        cursor.execute(PLAN_ENTRIES, values)
        cursor.execute(PLAN_LINES)
        cursor.executemany("INSERT INTO seed_line VALUES (%s, %s, %s, %s, %s, %s)", OPENING + WITH_VAT + PLAIN)
        cursor.execute(INSERT_ENTRIES, values)
        cursor.execute(INSERT_LINES, values)
        cursor.execute(UNBALANCED)
        if cursor.fetchone() is not None:
            raise CommandError("The seed made an entry that is not balanced; nothing was kept.")
        # Foreign keys are checked at once, because a table with checks still pending cannot be altered.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE ledger_posting ENABLE TRIGGER ledger_balance")
        # The entries were numbered by us; the next one is numbered by the sequence.
        cursor.execute("SELECT setval(pg_get_serial_sequence('ledger_journalentry', 'id'), %s)", [entries])
