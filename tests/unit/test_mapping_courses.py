"""Which table and column of the new schema an old one has become: renamed, moved, made again, or only said to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemas_by_hand import catalogue, claimed, column, effect, operations, rule_of, table

from safepoint.django.operations import Operation
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import WayBack


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("xyz"), max_size=6))
def test_chains_of_renames_are_followed_to_their_end(names: list[str], tables: list[str]) -> None:
    found, name, place = [], "first", "item"
    for following in names:
        if following != name:
            found.append(effect("column-renamed", place, place, name, following))
            name = following
    for following in tables:
        if following != place:
            found.append(effect("table-renamed", place, following))
            place = following
    old = catalogue(table("item", column("id"), column("first", "text")))
    new = catalogue(table(place, column("id"), column(name, "text")))
    mapping = plan_mapping(old, new, operations(*found))
    assert rule_of(mapping, "first").new == name and mapping.tables[0].new == f"public.{place}"
    assert mapping.problems == () and mapping.stash == {}


def test_a_name_that_is_given_to_a_new_column_is_not_the_old_one() -> None:
    old = catalogue(table("item", column("id"), column("code", "text", not_null=True)))
    new = catalogue(table("item", column("id"), column("sku", "text"), column("code", "text")))
    found = operations(
        effect("column-renamed", "item", "item", "code", "sku"), effect("column-added", "item", "item", "code")
    )
    mapping = plan_mapping(old, new, found)
    assert rule_of(mapping, "code").new == "sku" and mapping.tables[0].stash == ("code",)
    removed = operations(
        effect("column-removed", "item", "item", "code"), effect("column-added", "item", "item", "code")
    )
    rule = rule_of(plan_mapping(old, new, removed), "code")
    assert rule.kind == "none" and rule.new is None


def test_a_rename_in_djangos_state_alone_changes_nothing() -> None:
    one = catalogue(table("item", column("id"), column("code", "text")))
    found = operations(
        effect("table-renamed", "item", "product"), effect("column-renamed", "product", "product", "code", "sku")
    )
    mapping = plan_mapping(one, one, found)
    assert mapping.problems == () and mapping.tables[0].new == "public.item"
    assert rule_of(mapping, "code").new == "code"


@pytest.mark.parametrize(
    ("last", "stash"),
    [
        (effect("column-removed", "item", "item", "code"), ()),
        (effect("column-renamed", "item", "item", "code", "label"), ("label",)),
    ],
)
def test_a_column_that_was_renamed_does_not_follow_what_has_its_former_name(
    last: Operation, stash: tuple[str, ...]
) -> None:
    old = catalogue(table("item", column("id"), column("code", "text", not_null=True)))
    new = catalogue(table("item", column("id"), column("sku", "text"), *(column(name, "text") for name in stash)))
    found = operations(
        effect("column-renamed", "item", "item", "code", "sku"), effect("column-added", "item", "item", "code"), last
    )
    mapping = plan_mapping(old, new, found)
    assert (rule_of(mapping, "code").kind, rule_of(mapping, "code").new) == ("renamed", "sku")
    assert mapping.problems == () and mapping.tables[0].stash == stash


def test_a_column_takes_the_name_of_one_that_came_and_went() -> None:
    old = catalogue(table("item", column("id"), column("code", "text")))
    new = catalogue(table("product", column("id"), column("sku", "text")))
    found = operations(
        effect("column-added", "item", "item", "tmp"),
        effect("column-renamed", "item", "item", "tmp", "sku"),
        effect("table-renamed", "item", "product"),
        effect("column-removed", "product", "product", "sku"),
        effect("column-renamed", "product", "product", "code", "sku"),
    )
    mapping = plan_mapping(old, new, found)
    assert rule_of(mapping, "code").new == "sku" and mapping.problems == ()


def test_a_column_whose_name_was_given_away_unseen_is_a_problem() -> None:
    one = catalogue(table("item", column("id"), column("code", "text"), column("sku", "text")))
    for last in (
        effect("column-added", "item", "item", "sku"),
        effect("column-renamed", "item", "item", "code", "sku"),
    ):
        (problem,) = plan_mapping(one, one, operations(last)).problems[:1]
        assert problem.startswith("item.sku needs a mapper: ")


@pytest.mark.parametrize("last", [effect("table-deleted", "item"), effect("table-renamed", "item", "thing")])
def test_a_table_that_was_renamed_does_not_follow_what_has_its_former_name(last: Operation) -> None:
    old = catalogue(table("item", column("id")))
    names = ("product", "thing") if last.kind == "table-renamed" else ("product",)
    new = catalogue(*(table(name, column("id")) for name in names))
    found = operations(effect("table-renamed", "item", "product"), effect("table-created", "item"), last)
    mapping = plan_mapping(old, new, found)
    assert [rule.new for rule in mapping.tables] == ["public.product"] and mapping.problems == ()
    assert mapping.stash == ({} if len(names) == 1 else {"public.thing": "shop.0002_next: table-created item"})


def test_two_tables_that_would_be_made_of_one_are_a_problem() -> None:
    old = catalogue(table("item", column("id")), table("product", column("id")))
    found = operations(effect("table-renamed", "item", "product"))
    (problem,) = plan_mapping(old, catalogue(table("product", column("id"))), found).problems
    assert problem.startswith("product stays as it was")


def elsewhere(schema: str, one: Table) -> Table:
    return replace(one, schema=schema)


def successors(mapping: WayBack) -> dict[str, str]:
    return {rule.old: rule.new for rule in mapping.tables}


def test_tables_of_one_name_are_told_apart_by_their_schemas() -> None:
    item, product = table("item", column("id")), table("product", column("id"))
    old = catalogue(item, elsewhere("copy", item), elsewhere("staging", item))
    bare = operations(effect("table-renamed", "item", "product"))
    new = catalogue(product, elsewhere("copy", item), elsewhere("staging", item))
    mapping = plan_mapping(old, new, bare)
    assert mapping.problems == () and successors(mapping) == {
        "public.item": "public.product",
        "copy.item": "copy.item",
        "staging.item": "staging.item",
    }
    named = operations(effect("table-renamed", 'staging"."item', 'staging"."product'))
    new = catalogue(item, elsewhere("copy", item), elsewhere("staging", product))
    mapping = plan_mapping(old, new, named)
    assert mapping.problems == () and successors(mapping)["staging.item"] == "staging.product"
    assert successors(mapping)["public.item"] == "public.item"


def test_a_table_without_its_schema_is_the_one_beside_djangos_own_record() -> None:
    item, record = table("item", column("id")), table("django_migrations", column("id"))
    old = catalogue(item, elsewhere("app", item), elsewhere("app", record))
    new = catalogue(item, elsewhere("app", table("product", column("id"))), elsewhere("app", record))
    mapping = plan_mapping(old, new, operations(effect("table-renamed", "item", "product")))
    assert mapping.problems == ()
    assert successors(mapping) == {"public.item": "public.item", "app.item": "app.product"}


def test_a_table_that_may_be_either_of_two_is_a_problem() -> None:
    both = catalogue(*(elsewhere(schema, table("item", column("id"), column("a"))) for schema in ("one", "two")))
    (problem,) = plan_mapping(both, both, operations(effect("column-altered", "item", "item", "a"))).problems
    assert problem.startswith("item stands in the schemas one, two")


def test_a_table_that_got_another_schema_is_found_there_unless_another_one_stood_there() -> None:
    item = table("item", column("id"))
    mapping = plan_mapping(catalogue(item), catalogue(elsewhere("app", item)))
    assert mapping.problems == () and successors(mapping) == {"public.item": "app.item"}
    mapping = plan_mapping(catalogue(item, elsewhere("app", item)), catalogue(elsewhere("app", item)))
    assert "item stays as it was" in mapping.problems[0] and successors(mapping) == {"app.item": "app.item"}


def test_a_table_that_sql_is_said_to_have_renamed_is_followed_to_where_it_is() -> None:
    old, found = catalogue(table("item", column("id"))), operations(claimed(effect("table-renamed", "item", "thing")))
    for name in ("item", "thing"):
        mapping = plan_mapping(old, catalogue(table(name, column("id"))), found)
        assert mapping.problems == () and successors(mapping) == {"public.item": f"public.{name}"}
    (problem,) = plan_mapping(
        old, catalogue(*(table(name, column("id")) for name in ("item", "thing"))), found
    ).problems
    assert problem.startswith("item: ") and "public.item and public.thing are both there" in problem


def test_a_column_that_sql_is_said_to_have_renamed_is_followed_to_where_it_is() -> None:
    old = catalogue(table("item", column("id"), column("a"), column("b")))
    swapped = [
        claimed(effect("column-renamed", "item", "item", *names)) for names in (("a", "t"), ("b", "a"), ("t", "b"))
    ]
    mapping = plan_mapping(old, old, operations(*swapped))
    assert (rule_of(mapping, "a").new, rule_of(mapping, "b").new) == ("b", "a") and mapping.problems == ()
    gone = plan_mapping(old, catalogue(table("item", column("id"), column("b"))), operations(*swapped[:1]))
    assert gone.problems[0].startswith("item.a needs a mapper: ")


def test_what_is_said_to_be_gone_and_is_there_is_the_same_where_sql_did_it_and_a_problem_where_django_did() -> None:
    one = catalogue(table("item", column("id"), column("a")))
    for gone in (effect("table-deleted", "item"), effect("column-removed", "item", "item", "a")):
        mapping = plan_mapping(one, one, operations(claimed(gone)))
        assert mapping.problems == () and mapping.kept == {} and mapping.tables[0].stash == ()
        (problem,) = plan_mapping(one, one, operations(gone)).problems
        assert "and yet" in problem


def test_what_is_taken_over_by_name_or_made_again_is_told_apart() -> None:
    one = catalogue(table("item", column("id"), column("a")), table("gone", column("id")))
    for added in (effect("column-added", "item", "item", "a"), effect("table-created", "item")):
        mapping = plan_mapping(one, one, operations(claimed(added)))
        assert mapping.problems == () and mapping.stash == {} and rule_of(mapping, "a").kind == "same"
    again = operations(
        effect("column-removed", "item", "item", "a"),
        effect("column-added", "item", "item", "a"),
        effect("table-deleted", "gone"),
        effect("table-created", "gone"),
    )
    mapping = plan_mapping(one, one, again)
    assert mapping.problems == () and mapping.tables[0].stash == ("a",)
    assert mapping.kept.keys() == mapping.stash.keys() == {"public.gone"}
