"""Posting to the journal, and what it adds up to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from ledger.models import Account, JournalEntry, Posting, Tag


class ReferenceTaken(Exception):
    """Another user has posted an entry with this reference."""


@dataclass(frozen=True)
class Line:
    """A line to be posted: cents, positive for a debit, negative for a credit."""

    account: str
    cents: int
    note: str = ""


@dataclass(frozen=True)
class Balance:
    """What one account adds up to, in cents; the budget is in whole units. `total` has the sign of debit - credit."""

    code: str
    name: str
    kind: int
    budget: Decimal
    debit: int
    credit: int

    @property
    def total(self) -> int:
        return self.debit - self.credit

    @property
    def kind_name(self) -> str:
        return Account.Kind(self.kind).label


@dataclass(frozen=True)
class TrialBalance:
    """All accounts' balances as of an instant."""

    at: datetime
    accounts: tuple[Balance, ...]

    def of(self, kind: int) -> int:
        """The total of one kind of account, positive on the side where that kind usually stands."""
        total = sum(b.total for b in self.accounts if b.kind == kind)
        return total if kind in {Account.Kind.ASSET, Account.Kind.EXPENSE} else -total

    @property
    def debit(self) -> int:
        return sum(b.debit for b in self.accounts)

    @property
    def credit(self) -> int:
        return sum(b.credit for b in self.accounts)


def post(
    user: User,
    reference: uuid.UUID,
    day: date,
    memo: str,
    lines: Sequence[Line],
    *,
    currency: str = JournalEntry.Currency.EUR,
    tags: Sequence[Tag] = (),
) -> tuple[JournalEntry, bool]:
    """Post an entry; posting the same reference again gives the entry that is there.

    Returns:
        The entry, and whether it was made now.

    Raises:
        ReferenceTaken: the reference belongs to another user's entry.
    """
    if (existing := _existing(user, reference)) is not None:
        return existing, False
    accounts = {a.code: a for a in Account.objects.filter(code__in={line.account for line in lines})}
    try:
        with transaction.atomic():
            entry = JournalEntry.objects.create(
                user=user, reference=reference, booked_on=day, memo=memo, currency=currency
            )
            entry.tags.set(tags)
            Posting.objects.bulk_create(
                Posting(entry=entry, account=accounts[line.account], amount_cents=line.cents, note=line.note)
                for line in lines
            )
    except IntegrityError:
        # The same request twice at once: the other one has won. Anything else is a fault and is raised.
        if (existing := _existing(user, reference)) is None:
            raise
        return existing, False
    return entry, True


def _existing(user: User, reference: uuid.UUID) -> JournalEntry | None:
    entry = JournalEntry.objects.filter(reference=reference).first()
    if entry is not None and entry.user_id != user.pk:
        raise ReferenceTaken
    return entry


def listed(search: str = "", tag: str = "") -> QuerySet[JournalEntry]:
    """Entries, newest first, each with its `total` in cents; `search` is the beginning of a memo."""
    debits = Posting.objects.filter(entry=OuterRef("pk"), amount_cents__gt=0).order_by().values("entry")
    totals = debits.annotate(sum=Sum("amount_cents"))
    entries = JournalEntry.objects.select_related("user__profile").prefetch_related("tags")
    entries = entries.annotate(total=Subquery(totals.values("sum")))
    if tag:
        entries = entries.filter(tags__name=tag)
    return entries.filter(memo__istartswith=search) if search else entries


def trial_balance() -> TrialBalance:
    """The trial balance, at most half a minute old: adding up the whole journal is not done for every visitor."""
    found = cache.get("trial-balance")
    if found is None:
        found = _add_up()
        cache.set("trial-balance", found, timeout=30)
    return found


def _add_up() -> TrialBalance:
    at = timezone.now()
    sums = {
        row["account"]: row
        for row in Posting.objects.order_by()
        .values("account")
        .annotate(
            debit=Coalesce(Sum("amount_cents", filter=Q(amount_cents__gt=0)), 0),
            credit=-Coalesce(Sum("amount_cents", filter=Q(amount_cents__lt=0)), 0),
        )
    }
    nothing = {"debit": 0, "credit": 0}
    return TrialBalance(
        at,
        tuple(
            Balance(
                account.code,
                account.name,
                account.kind,
                account.budget,
                sums.get(account.pk, nothing)["debit"],
                sums.get(account.pk, nothing)["credit"],
            )
            for account in Account.objects.all()
        ),
    )


def account_choices() -> list[tuple[str, str]]:
    """The open accounts for a form, cached for five minutes."""
    found = cache.get("account-choices")
    if found is None:
        found = [(a.code, str(a)) for a in Account.objects.filter(is_open=True)]
        # No accounts: nothing worth remembering, a seed may be running.
        if found:
            cache.set("account-choices", found, timeout=300)
    return [("", "Choose an account"), *found]
