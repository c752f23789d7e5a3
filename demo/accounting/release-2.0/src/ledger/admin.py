"""The administration of the ledger. An entry is edited with its lines, so that it stays balanced."""

from django import forms
from django.contrib import admin

from ledger.models import Account, JournalEntry, Posting, Tag


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):
    list_display = ("code", "name", "kind", "budget", "is_open")
    list_filter = ("kind", "is_open")
    search_fields = ("code", "name")


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    list_display = ("name", "created_at")
    search_fields = ("name",)


class BalancedFormSet(forms.BaseInlineFormSet):
    """Tells the user what the database would refuse."""

    def clean(self) -> None:
        super().clean()
        kept = [f.cleaned_data for f in self.forms if f.is_valid() and f.cleaned_data and not f.cleaned_data["DELETE"]]
        difference = sum(data["amount_cents"] for data in kept)
        if difference:
            raise forms.ValidationError(f"Debits and credits differ by {abs(difference) / 100:,.2f}.")


class PostingInline(admin.TabularInline):
    model = Posting
    formset = BalancedFormSet
    extra = 2
    autocomplete_fields = ("account",)


@admin.register(JournalEntry)
class JournalEntryAdmin(admin.ModelAdmin):
    list_display = ("booked_on", "memo", "currency", "user", "posted_at")
    list_select_related = ("user",)
    search_fields = ("memo__istartswith",)
    show_full_result_count = False
    readonly_fields = ("posted_at",)
    autocomplete_fields = ("user", "tags")
    inlines = (PostingInline,)
