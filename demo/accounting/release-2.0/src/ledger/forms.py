"""The form that posts an entry: a head and two or more lines."""

from __future__ import annotations

from typing import Any

from django import forms

from ledger.journal import Line, account_choices
from ledger.models import JournalEntry, Tag


class EntryForm(forms.Form):
    """The head of an entry."""

    reference = forms.UUIDField(widget=forms.HiddenInput)
    booked_on = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    memo = forms.CharField(max_length=140, widget=forms.TextInput(attrs={"placeholder": "What is it about?"}))
    currency = forms.ChoiceField(choices=JournalEntry.Currency, initial=JournalEntry.Currency.EUR)
    tags = forms.ModelMultipleChoiceField(Tag.objects, required=False, widget=forms.CheckboxSelectMultiple)


class LineForm(forms.Form):
    """One line; a line without account and amounts is left out."""

    account = forms.ChoiceField(choices=account_choices, required=False)
    debit = forms.DecimalField(min_value=0, max_digits=14, decimal_places=2, required=False)
    credit = forms.DecimalField(min_value=0, max_digits=14, decimal_places=2, required=False)
    note = forms.CharField(max_length=200, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("debit", "credit"):
            self.fields[name].widget.attrs |= {"placeholder": "0.00", "data-side": name, "step": "0.01"}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        debit, credit = data.get("debit") or 0, data.get("credit") or 0
        if not self.errors and (data.get("account") or debit or credit):
            if not data.get("account"):
                self.add_error("account", "Choose the account of this line.")
            elif bool(debit) == bool(credit):
                raise forms.ValidationError("A line has an amount on one side: debit or credit.")
        return data

    def line(self) -> Line | None:
        """The line to be posted, if it was filled in."""
        data = self.cleaned_data
        if not data.get("account"):
            return None
        cents = ((data["debit"] or 0) - (data["credit"] or 0)) * 100
        return Line(data["account"], int(cents), data["note"])


class BaseLineFormSet(forms.BaseFormSet):
    """All lines of an entry: at least two, and both sides add up to the same."""

    def clean(self) -> None:
        if any(self.errors):
            return
        lines = self.lines()
        if len(lines) < 2:
            raise forms.ValidationError("An entry has two lines at least.")
        difference = sum(line.cents for line in lines)
        if difference:
            raise forms.ValidationError(f"Debits and credits differ by {abs(difference) / 100:,.2f}.")

    def lines(self) -> list[Line]:
        """The lines that were filled in."""
        return [line for form in self.forms if (line := form.line()) is not None]


LineFormSet = forms.formset_factory(LineForm, formset=BaseLineFormSet, extra=4, max_num=100, absolute_max=100)
