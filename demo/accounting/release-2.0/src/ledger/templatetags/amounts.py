"""How amounts are written."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def money(cents: int | None) -> str:
    """Two decimals and thousands separators; nothing for zero, as in a paper journal."""
    return total(cents) if cents else ""


@register.filter
def total(cents: int | None) -> str:
    """As `money`, but zero is written."""
    units, rest = divmod(abs(cents or 0), 100)
    return f"{'-' if (cents or 0) < 0 else ''}{units:,}.{rest:02d}"


@register.filter
def units(value: Decimal | None) -> str:
    """An amount that is not in cents."""
    return f"{value:,.2f}" if value else ""
