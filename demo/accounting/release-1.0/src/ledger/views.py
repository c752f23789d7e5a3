"""The pages of the ledger."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.core.cache import cache
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.functional import cached_property

from ledger import journal
from ledger.forms import EntryForm, LineFormSet
from ledger.models import Account

PAGE = 25
_TILES = dict(zip(Account.Kind, ("Assets", "Liabilities", "Equity", "Income", "Expenses"), strict=True))


class JournalPaginator(Paginator):
    """A paginator that counts the whole journal once in a while, not for each page."""

    @cached_property
    def count(self) -> int:
        found = cache.get("journal-count")
        if found is None:
            found = self.object_list.count()
            cache.set("journal-count", found, timeout=10)
        return found


def dashboard(request: HttpRequest) -> HttpResponse:
    """Where the books stand."""
    balance = journal.trial_balance()
    tiles = [(_TILES[kind], balance.of(kind)) for kind in Account.Kind]
    recent = journal.listed().order_by("-id")[:8]
    return render(request, "ledger/dashboard.html", {"balance": balance, "tiles": tiles, "recent": recent})


def chart(request: HttpRequest) -> HttpResponse:
    """The chart of accounts with its balances."""
    return render(request, "ledger/chart.html", {"balance": journal.trial_balance()})


def entries(request: HttpRequest) -> HttpResponse:
    """The journal, page by page."""
    search = request.GET.get("q", "").strip()
    found = journal.listed(search)
    paginator = Paginator(found, PAGE) if search else JournalPaginator(found, PAGE)
    page = paginator.get_page(request.GET.get("page"))
    links = paginator.get_elided_page_range(page.number, on_each_side=2, on_ends=1)
    return render(request, "ledger/entries.html", {"page": page, "links": links, "search": search})


def entry(request: HttpRequest, reference: uuid.UUID) -> HttpResponse:
    """One entry with its lines."""
    found = get_object_or_404(journal.listed(), reference=reference)
    return render(request, "ledger/entry.html", {"entry": found, "lines": found.lines.select_related("account")})


def new_entry(request: HttpRequest) -> HttpResponse:
    """Post an entry."""
    if request.method != "POST":
        form = EntryForm(initial={"reference": uuid.uuid4(), "date": timezone.localdate()})
        return _entry_form(request, form, LineFormSet(prefix="lines"))
    form, lines = EntryForm(request.POST), LineFormSet(request.POST, prefix="lines")
    if not (form.is_valid() & lines.is_valid()):
        return _entry_form(request, form, lines)
    data = form.cleaned_data
    try:
        posted, created = journal.post(request.user, data["reference"], data["date"], data["memo"], lines.lines())
    except journal.ReferenceTaken:
        form.add_error(None, "This reference is already in use. Open a new form and post the entry again.")
        return _entry_form(request, form, lines)
    messages.success(request, "Entry posted." if created else "This entry had already been posted.")
    return redirect(posted)


def _entry_form(request: HttpRequest, form: EntryForm, lines: LineFormSet) -> HttpResponse:
    return render(request, "ledger/entry_form.html", {"form": form, "lines": lines})
