"""How amounts are written."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def money(value: Decimal | None) -> str:
    """Two decimals and thousands separators; nothing for zero, as in a paper journal."""
    return f"{value:,.2f}" if value else ""


@register.filter
def total(value: Decimal | None) -> str:
    """As `money`, but zero is written."""
    return f"{value or 0:,.2f}"
