"""The form that posts an entry: a head and two or more lines."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from ledger.journal import ZERO, Line, account_choices


class EntryForm(forms.Form):
    """The head of an entry."""

    reference = forms.UUIDField(widget=forms.HiddenInput)
    date = forms.DateField(widget=forms.DateInput(attrs={"type": "date"}))
    memo = forms.CharField(max_length=200, widget=forms.TextInput(attrs={"placeholder": "What is it about?"}))


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
        debit, credit = data.get("debit") or ZERO, data.get("credit") or ZERO
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
        return Line(data["account"], data["debit"] or ZERO, data["credit"] or ZERO, data["note"])


class BaseLineFormSet(forms.BaseFormSet):
    """All lines of an entry: at least two, and both sides add up to the same."""

    def clean(self) -> None:
        if any(self.errors):
            return
        lines = self.lines()
        if len(lines) < 2:
            raise forms.ValidationError("An entry has two lines at least.")
        difference: Decimal = sum((line.debit - line.credit for line in lines), ZERO)
        if difference:
            raise forms.ValidationError(f"Debits and credits differ by {abs(difference):,.2f}.")

    def lines(self) -> list[Line]:
        """The lines that were filled in."""
        return [line for form in self.forms if (line := form.line()) is not None]


LineFormSet = forms.formset_factory(LineForm, formset=BaseLineFormSet, extra=4, max_num=100, absolute_max=100)
