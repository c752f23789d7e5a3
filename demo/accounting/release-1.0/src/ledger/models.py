"""Double-entry bookkeeping: accounts, journal entries and their lines.

That debits equal credits in each entry is held by the database: see migration `0002_balance`.
"""

import uuid
from decimal import Decimal

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
    budget = models.DecimalField(max_digits=16, decimal_places=4, default=0, help_text="For one year.")
    is_open = models.BooleanField(default=True)

    class Meta:
        ordering = ("code",)
        constraints = (
            models.CheckConstraint(condition=Q(kind__range=(1, 5)), name="ledger_account_kind_known"),
            models.CheckConstraint(condition=Q(budget__gte=0), name="ledger_account_budget_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class JournalEntry(models.Model):
    """One business transaction. `reference` is made by whoever posts it: posting it twice posts it once."""

    reference = models.UUIDField(unique=True, default=uuid.uuid4)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="journal_entries")
    date = models.DateField(db_index=True)
    memo = models.CharField(max_length=200)
    legacy_number = models.IntegerField(null=True, blank=True, help_text="Its number in the paper journal.")
    posted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-date", "-id")
        verbose_name_plural = "journal entries"
        constraints = (models.CheckConstraint(condition=~Q(memo=""), name="ledger_entry_has_memo"),)

    def __str__(self) -> str:
        return f"{self.date} {self.memo}"

    def get_absolute_url(self) -> str:
        return reverse("entry", args=[self.reference])


class JournalLine(models.Model):
    """One line of an entry: an amount on the debit or on the credit side of an account."""

    entry = models.ForeignKey(JournalEntry, on_delete=models.CASCADE, related_name="lines")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="lines")
    debit = models.DecimalField(max_digits=14, decimal_places=2, default=Decimal(0))
    credit = models.DecimalField(max_digits=14, decimal_places=2, default=Decimal(0))
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("id",)
        constraints = (
            models.CheckConstraint(
                condition=Q(debit__gt=0, credit=0) | Q(debit=0, credit__gt=0), name="ledger_line_one_side"
            ),
        )

    def __str__(self) -> str:
        return f"{self.account_id}: {self.debit} / {self.credit}"
