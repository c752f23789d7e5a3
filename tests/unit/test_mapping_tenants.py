"""A schema for each tenant, with Django's own record in it: the operations were carried out in each of them."""

from __future__ import annotations

from dataclasses import replace

from schemas_by_hand import catalogue, column, effect, operations, table

from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.trial.roundtrip import Accepted

RECORD = table("django_migrations", column("id"))
SHARED = table("client", column("id"), column("schema_name", "text"))


def tenants(*tables: Table, public: tuple[Table, ...] = (SHARED, RECORD), left: tuple[Table, ...] = ()) -> Catalogue:
    """`public`, and the schemas t1 and t2 with tables of their own; in t2 `left` stands in the place of these."""
    own = {"public": public, "t1": (*tables, RECORD), "t2": (*(left or tables), RECORD)}
    return catalogue(*(replace(one, schema=schema) for schema, found in own.items() for one in found))


def test_what_was_renamed_removed_and_made_in_each_tenants_schema_is_followed_in_each() -> None:
    author = table("author", column("id"), column("name", "text"))
    old = tenants(author, table("book", column("id"), column("price", "integer")))
    new = tenants(
        table("writer", column("id"), column("full_name", "text")),
        table("book", column("id"), column("price", "bigint"), column("isbn", "text")),
        table("review", column("id")),
    )
    mapping = plan_mapping(
        old,
        new,
        operations(
            effect("column-renamed", "author", "author", "name", "full_name"),
            effect("table-renamed", "author", "writer"),
            effect("column-added", "book", "book", "isbn"),
            effect("column-altered", "book", "book", "price"),
            effect("table-created", "review", "review"),
        ),
    )
    assert mapping.problems == ()
    heirs = {rule.old: rule for rule in mapping.tables}
    for schema in ("t1", "t2"):
        assert heirs[f"{schema}.author"].new == f"{schema}.writer"
        assert [one.new for one in heirs[f"{schema}.author"].columns] == ["id", "full_name"]
        assert heirs[f"{schema}.book"].stash == ("isbn",) and f"{schema}.review" in mapping.stash
    assert heirs["public.client"].new == "public.client"


def test_a_table_that_the_operations_passed_by_in_some_schemas_is_as_it_was_there() -> None:
    before, after = table("plan", column("id"), column("fee", "text")), table("plan", column("id"))
    public = (SHARED, RECORD)
    # The application is shared by now: its migrations are carried out in `public` alone.
    old, new = (tenants(before, public=(*public, one)) for one in (before, after))
    removed = plan_mapping(old, new, operations(effect("column-removed", "plan", "plan", "fee")))
    asked = [one for one in removed.problems if not one.startswith("plan.fee")]
    assert asked == [] and {rule.old: rule.new for rule in removed.tables}["t1.plan"] == "t1.plan"
    renamed = table("tariff", column("id"), column("fee", "text"))
    new = tenants(before, public=(*public, renamed))
    mapping = plan_mapping(old, new, operations(effect("table-renamed", "plan", "tariff")))
    assert mapping.problems == ()
    assert {rule.old: rule.new for rule in mapping.tables if "plan" in rule.old} == {
        "public.plan": "public.tariff",
        "t1.plan": "t1.plan",
        "t2.plan": "t2.plan",
    }


def test_what_the_plan_says_of_a_table_without_its_schema_holds_for_that_of_each_tenant() -> None:
    old = tenants(table("author", column("id"), column("name", "text")))
    new = tenants(table("author", column("id"), column("first", "text"), column("last", "text")))
    said = {"t2.author": {"name": "upper(first)"}, "author": {"name": "first || last"}}
    mapping = plan_mapping(old, new, operations(effect("column-removed", "author", "author", "name")), said)
    assert mapping.problems == ()
    found = {rule.old: one.expression for rule in mapping.tables for one in rule.columns if one.column == "name"}
    assert found == {"t1.author": "(first || last)", "t2.author": "(upper(first))"}
    accepted = Accepted.of(old, frozenset({"author"}), frozenset({"t1.author", "client"}))
    assert accepted.added == {"t1.author", "t2.author"} and accepted.removed == {"t1.author", "public.client"}
    (problem,) = plan_mapping(old, new, operations(), {**said, "author": {"nam": "1", "name": "first"}}).problems
    assert problem == "wayback.tables.author: the table has no column nam."
