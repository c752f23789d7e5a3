"""Double-entry bookkeeping: accounts, journal entries, their postings, and tags.

That debits equal credits in each entry is held by the database: see migration `0005_postings`.
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone


class Account(models.Model):
    """One account of the chart of accounts."""

    class Kind(models.IntegerChoices):
        ASSET = 1, "Asset"
        LIABILITY = 2, "Liability"
        EQUITY = 3, "Equity"
        INCOME = 4, "Income"
        EXPENSE = 5, "Expense"

    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=120)
    kind = models.PositiveSmallIntegerField(choices=Kind)
    budget = models.DecimalField(max_digits=14, decimal_places=2, default=0, help_text="For one year.")
    is_open = models.BooleanField(default=True)

    class Meta:
        ordering = ("code",)
        constraints = (
            models.CheckConstraint(condition=Q(kind__range=(1, 5)), name="ledger_account_kind_known"),
            models.CheckConstraint(condition=Q(budget__gte=0), name="ledger_account_budget_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class Tag(models.Model):
    """A word that entries are sorted by: a project, a cost centre, a reminder."""

    name = models.CharField(max_length=40, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class JournalEntry(models.Model):
    """One business transaction. `reference` is made by whoever posts it: posting it twice posts it once."""

    class Currency(models.TextChoices):
        EUR = "EUR", "Euro"
        GBP = "GBP", "Pound sterling"
        USD = "USD", "US dollar"

    reference = models.UUIDField(unique=True, default=uuid.uuid4)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="journal_entries")
    booked_on = models.DateField(db_index=True)
    memo = models.CharField(max_length=140)
    currency = models.CharField(max_length=3, choices=Currency, default=Currency.EUR)
    tags = models.ManyToManyField(Tag, blank=True, related_name="entries")
    posted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-booked_on", "-id")
        verbose_name_plural = "journal entries"
        constraints = (models.CheckConstraint(condition=~Q(memo=""), name="ledger_entry_has_memo"),)

    def __str__(self) -> str:
        return f"{self.booked_on} {self.memo}"

    def get_absolute_url(self) -> str:
        return reverse("entry", args=[self.reference])


class Posting(models.Model):
    """One line of an entry: an amount in whole cents, positive on the debit side, negative on the credit side."""

    entry = models.ForeignKey(JournalEntry, on_delete=models.CASCADE, related_name="lines")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="lines")
    amount_cents = models.BigIntegerField()
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("id",)
        indexes = (models.Index(fields=("account", "-entry"), name="ledger_posting_history"),)
        constraints = (models.CheckConstraint(condition=~Q(amount_cents=0), name="ledger_posting_not_zero"),)

    def __str__(self) -> str:
        return f"{self.account_id}: {self.amount_cents}"

    @property
    def debit(self) -> int:
        return max(self.amount_cents, 0)

    @property
    def credit(self) -> int:
        return max(-self.amount_cents, 0)
