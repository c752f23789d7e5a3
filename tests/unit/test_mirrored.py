"""Which rules of the old schema the new one holds too."""

from __future__ import annotations

from dataclasses import replace

from safepoint.wayback.mapping.catalogue import Column, ForeignKey, Table, Unique
from safepoint.wayback.mapping.mapping import ColumnRule, TableRule
from safepoint.wayback.mapping.mirrored import reference_held, unique_held

MAIL = Unique("mail_key", ("mail",), ("mail",))
NEW = Table(
    "public",
    "person",
    tuple(Column(name, "text", "text", not_null=False) for name in ("id", "address", "boss_id")),
    uniques=(Unique("address_key", ("address",), ("address",)),),
    foreign_keys=(ForeignKey("boss", ("boss_id",), "public.person", ("id",)),),
)
BOSS = ForeignKey("boss", ("boss_id",), "public.customer", ("id",))


def rule(**kinds: str) -> TableRule:
    """Old `customer` (id, mail, boss_id) is now `person` (id, address, boss_id)."""
    columns = tuple(
        ColumnRule(old, kinds.get(old, "same"), f"new.{new}", "", new)  # type: ignore[arg-type]  # any kind
        for old, new in (("id", "id"), ("mail", "address"), ("boss_id", "boss_id"))
    )
    return TableRule("public.customer", "public.person", "", (("id", "id"),), columns)


def test_a_unique_key_is_held_over_values_that_are_taken_over() -> None:
    assert unique_held(rule(mail="renamed"), NEW, MAIL)
    assert not unique_held(rule(mail="retyped"), NEW, MAIL)
    assert not unique_held(rule(mail="mapped"), NEW, MAIL)


def test_a_unique_key_is_not_held_by_less_than_it() -> None:
    assert not unique_held(rule(), replace(NEW, uniques=()), MAIL)
    assert not unique_held(rule(), NEW, replace(MAIL, nulls_equal=True))
    assert not unique_held(rule(), NEW, replace(MAIL, immediate=False))
    assert not unique_held(rule(), NEW, replace(MAIL, predicate="mail <> ''"))
    assert not unique_held(rule(), NEW, replace(MAIL, expressions=("lower(mail)",), columns=()))
    part = replace(NEW.uniques[0], predicate="address <> ''")
    assert not unique_held(rule(), replace(NEW, uniques=(part,)), MAIL)
    more = Unique("both", ("address", "id"), ("address", "id"))
    assert not unique_held(rule(), replace(NEW, uniques=(more,)), MAIL)


def test_a_foreign_key_is_held_by_one_to_the_table_that_feeds_its_parent() -> None:
    rules = {"public.customer": rule()}
    assert reference_held(rules, rule(), NEW, BOSS)
    assert not reference_held({}, rule(), NEW, BOSS)
    assert not reference_held(rules, rule(), replace(NEW, foreign_keys=()), BOSS)
    assert not reference_held(rules, rule(boss_id="remapped"), NEW, BOSS)
    assert not reference_held({"public.customer": rule(id="retyped")}, rule(), NEW, BOSS)
    elsewhere = ForeignKey("boss", ("boss_id",), "public.other", ("id",))
    assert not reference_held(rules, rule(), replace(NEW, foreign_keys=(elsewhere,)), BOSS)
