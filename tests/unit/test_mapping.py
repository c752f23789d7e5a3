"""The mapping from operations and catalogues alone: where an old value comes from, and what is not known."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from schemas_by_hand import CASTS, DATA, catalogue, column, effect, operations, rule_of, table

from safepoint.django.operations import Effect, Operation, Operations, StateColumn, StateTable
from safepoint.wayback.mapping import expressions
from safepoint.wayback.mapping.catalogue import Catalogue, ForeignKey, Table, Unique, meant
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import ColumnRule, TableRule, WayBack, changed_rules
from safepoint.wayback.mapping.natural import match_permissions, match_types
from safepoint.wayback.trial.roundtrip import Accepted, RoundTrip, TableTrip, doubtful


def test_what_is_the_same_in_both_is_taken_as_it_is() -> None:
    one = catalogue(table("item", column("id"), column("Name", "text")))
    mapping = plan_mapping(one, one)
    assert mapping.tables == (
        TableRule(
            "public.item",
            "public.item",
            "same in both catalogues",
            (("id", "id"),),
            (
                ColumnRule("id", "same", 'new."id"', "same in both catalogues", "id"),
                ColumnRule("Name", "same", 'new."Name"', "same in both catalogues", "Name"),
            ),
        ),
    )
    assert mapping.problems == mapping.notes == () and mapping.stash == {}
    assert all(line.plain for line in mapping.lines())


def test_a_removed_column_keeps_the_twins_value_and_gets_its_default_in_new_rows() -> None:
    old = catalogue(
        table("item", column("id"), column("a", not_null=True, default="7"), column("b", "text", not_null=True))
    )
    new = catalogue(table("item", column("id")))
    state = {"item": StateTable("shop.item", {"b": StateColumn("text", False, False, False, None, "it's")})}
    gone = [effect("column-removed", "item", "item", name) for name in ("a", "b")]
    mapping = plan_mapping(old, new, operations(*gone, before=state))
    assert rule_of(mapping, "a").expression == 'CASE WHEN old.ctid IS NULL THEN 7 ELSE old."a" END'
    assert rule_of(mapping, "b").expression == "CASE WHEN old.ctid IS NULL THEN 'it''s'::text ELSE old.\"b\" END"
    assert mapping.problems == () and mapping.tables[0].uses_twin


@pytest.mark.parametrize("name", ["item", 'app"."item', '"app"."item"'])
def test_what_django_fills_in_is_known_of_a_table_in_another_schema(name: str) -> None:
    old = catalogue(replace(table("item", column("id"), column("b", "text", not_null=True)), schema="app"))
    new = catalogue(replace(table("item", column("id")), schema="app"))
    state = {name: StateTable("shop.item", {"b": StateColumn("text", False, False, False, None, "none")})}
    mapping = plan_mapping(old, new, operations(effect("column-removed", name, name, "b"), before=state))
    assert mapping.problems == () and rule_of(mapping, "b").kind == "restored"


def test_a_models_table_is_found_by_every_name_that_django_gives_it() -> None:
    tables = ["app.item", "app.user", "public.item", "public.a.b"]
    names = {"item": "public.item", 'app"."item': "app.item", '"app"."item"': "app.item", "app.item": "app.item"}
    names |= {"user": "app.user", '"user"': "app.user", "a.b": "public.a.b"}
    assert {name: meant(name, tables) for name in names} == names
    assert meant("b", tables) is None and meant('"other"."item"', tables) is None


@pytest.mark.parametrize("mapper", [None, "greatest(cents, 0) / 100.0"])
def test_a_column_removed_after_a_data_migration_needs_a_mapper(mapper: str | None) -> None:
    old = catalogue(table("line", column("id"), column("debit", "numeric(9,2)", not_null=True, default="0")))
    new = catalogue(table("line", column("id"), column("cents", "bigint")))
    found = operations(
        effect("column-added", "line", "line", "cents"), DATA, effect("column-removed", "line", "line", "debit")
    )
    mapping = plan_mapping(old, new, found, {"line": {"debit": mapper}} if mapper else {})
    rule = rule_of(mapping, "debit")
    if mapper is None:
        assert "needs a mapper" in mapping.problems[0] and "Raw Python" in (rule.doubt or "")
        assert mapping.tables[0].stash == ("cents",)
    else:
        assert mapping.problems == () and (rule.kind, rule.expression) == ("mapped", f"({mapper})")
        assert rule.source == "launch.toml: wayback.tables.line.columns.debit"
        assert mapping.tables[0].stash == ()  # the mapper reads it
    assert any("only the round trip tells" in note for note in mapping.notes)


@pytest.mark.parametrize("mapper", [None, "qty * price"])
def test_a_column_that_was_made_a_computed_one_needs_a_mapper(mapper: str | None) -> None:
    """Django makes one by RemoveField and AddField: the twin's own value would be that of other quantities."""
    columns = (column("id"), column("qty"), column("price"))
    old = catalogue(table("item", *columns, column("total", not_null=True, default="0")))
    computed = replace(column("total"), generated=True)
    plain = table("item", *columns)
    new = catalogue(replace(plain, columns=(*plain.columns, computed)))
    found = operations(
        effect("column-removed", "item", "item", "total"), effect("column-added", "item", "item", "total")
    )
    mapping = plan_mapping(old, new, found, {"item": {"total": mapper}} if mapper else {})
    assert rule_of(mapping, "total").kind == ("mapped" if mapper else "restored")
    assert [problem[:26] for problem in mapping.problems] == ([] if mapper else ["item.total needs a mapper:"])


def test_a_column_that_nothing_explains_is_a_problem_and_so_is_a_mapper_for_nothing() -> None:
    old = catalogue(table("item", column("id"), column("a")))
    mapping = plan_mapping(old, catalogue(table("item", column("id"))), mappers={"item": {"z": "1"}, "no": {"a": "1"}})
    assert len(mapping.problems) == 3 and "item.a needs a mapper" in mapping.problems[2]


def test_narrowed_values_keep_what_the_twin_knows_better() -> None:
    old = catalogue(table("item", column("id"), column("p", "numeric(16,4)"), column("t", "character varying(9)")))
    new = catalogue(table("item", column("id", "bigint"), column("p", "numeric(14,2)"), column("t", "text")))
    mapping = plan_mapping(old, new)
    assert rule_of(mapping, "p").expression == (
        'CASE WHEN old."p"::numeric(14,2)::text = new."p"::text THEN old."p" ELSE new."p"::numeric(16,4) END'
    )
    assert rule_of(mapping, "t").expression == 'new."t"::character varying(9)'
    assert "bigint -> integer" in rule_of(mapping, "id").source


def test_where_postgresql_has_no_cast_a_value_goes_by_its_text() -> None:
    assert expressions.cast("new.x", "boolean", "integer", "integer", CASTS) == "new.x::integer"
    assert expressions.cast("new.x", "uuid", "integer", "integer", CASTS) == "new.x::text::integer"


def test_rows_named_by_a_column_that_the_old_schema_has_not_cannot_be_found_again() -> None:
    old = catalogue(table("item", column("code", "text"), key=("code",)))
    new = catalogue(table("item", column("id"), column("code", "text")))
    mapping = plan_mapping(old, new, operations(effect("column-added", "item", "item", "id")))
    assert "named by id in the new schema" in mapping.problems[0] and mapping.tables[0].key == ()


def test_new_tables_are_stashed_removed_ones_kept_djangos_own_left_alone() -> None:
    old = catalogue(table("gone", column("id")), table("django_migrations", column("id")))
    new = catalogue(table("tag", column("id")), table("django_migrations", column("id")))
    found = operations(effect("table-created", "tag"), effect("table-deleted", "gone"))
    mapping = plan_mapping(old, new, found)
    assert mapping.tables == () and set(mapping.kept) == {"public.gone", "public.django_migrations"}
    assert mapping.stash == {"public.tag": "shop.0002_next: table-created tag"}


def test_references_to_content_types_go_by_natural_key_and_the_mapping_survives_the_ledger() -> None:
    key = ForeignKey("fk", ("content_type_id",), "public.django_content_type", ("id",))
    one = catalogue(
        table("django_content_type", column("id")),
        table("django_admin_log", column("id"), column("content_type_id"), keys=(key,)),
    )
    renamed = Operation(
        "shop.0002", "RenameModel", "x", False, (Effect("model-renamed", "shop.line", "line", "post", "shop.post"),)
    )
    again = Operation(
        "shop.0003", "RenameModel", "y", False, (Effect("model-renamed", "shop.post", "post", "p", "shop.p"),)
    )
    mapping = plan_mapping(one, one, operations(renamed, again))
    assert rule_of(mapping, "content_type_id").kind == "remapped"
    assert mapping.models == {"shop.p": "shop.line"} and mapping.loose == ()
    assert WayBack.from_json(json.loads(json.dumps(mapping.as_json()))) == mapping


def test_content_types_and_permissions_are_matched_by_what_they_name() -> None:
    models = {"shop.posting": "shop.line"}
    assert match_types([(1, "shop.posting"), (2, "shop.tag"), (3, "a.b")], [(9, "shop.line"), (3, "a.b")], models) == {
        1: 9,
        2: None,
        3: 3,
    }
    new = [(1, "add_posting", "shop.posting"), (2, "close", "shop.posting"), (3, "add_tag", "shop.tag")]
    assert match_permissions(new, [(7, "add_line", "shop.line"), (8, "close", "shop.line")], models) == {
        1: 7,
        2: 8,
        3: None,
    }


def test_a_new_model_that_takes_a_renamed_ones_name_is_not_taken_for_it() -> None:
    """Django renames the content type with its model, and makes another one for the new model of that name."""
    models = {"shop.b": "shop.a"}
    assert match_types([(1, "shop.b"), (9, "shop.a")], [(1, "shop.a")], models) == {1: 1, 9: None}
    # Before Django 6.0 the permissions of a renamed model keep their codenames, and get others besides.
    new = [(7, "add_a", "shop.b"), (20, "add_b", "shop.b"), (21, "add_a", "shop.a")]
    assert match_permissions(new, [(7, "add_a", "shop.a")], models) == {7: 7, 20: 7, 21: None}


def test_two_models_that_change_their_names_with_each_other_are_told_apart() -> None:
    models = {"shop.a": "shop.b", "shop.b": "shop.a"}
    old = [(1, "shop.a"), (2, "shop.b")]
    assert match_types([(1, "shop.b"), (2, "shop.a")], old, models) == {1: 1, 2: 2}
    rights = [(7, "close", "shop.a"), (8, "close", "shop.b")]
    assert match_permissions([(7, "close", "shop.b"), (8, "close", "shop.a")], rights, models) == {7: 7, 8: 8}
    # What only the other one had is nobody's.
    assert match_permissions([(9, "sell", "shop.a")], [(7, "sell", "shop.a")], models) == {9: None}


def test_a_content_type_that_could_not_be_renamed_is_still_what_it_was() -> None:
    """Where a stale one has the new name already, Django leaves the renamed model's as it is."""
    old = [(1, "shop.a"), (2, "shop.b")]
    assert match_types([(1, "shop.a"), (2, "shop.b")], old, {"shop.b": "shop.a"}) == {1: 1, 2: 1}
    rights = [(7, "add_a", "shop.a")]
    assert match_permissions(rights, rights, {"shop.b": "shop.a"}) == {7: 7}


@pytest.mark.parametrize(
    ("expression", "column", "found"),
    [
        ("greatest(cents, 0)", "cents", True),
        ("new.cents + 1", "cents", True),
        ('"cents"::int', "cents", True),
        ("amount_cents", "cents", False),
        ("'cents'", "cents", False),
        ("'it''s cents' || x", "cents", False),
        ("GREATEST(Cents, 0)", "cents", True),
        ('row_."cents"', "cents", True),
        ("cents -- of the text\n / 100", "text", False),
        ("kind_no::text", "text", False),
        ("CAST(kind_no AS text)", "text", False),
        ("text || kind_no :: text", "text", True),
        ("(kind_no = 1) AND text LIKE 'a%'", "text", True),
        ("case when kind_no = 1 then 'a' end", "end", False),
        ('case when kind_no = 1 then "end" end', "end", True),
        ("date '2026-01-01' + days", "date", False),
        ("date(made_at)", "date", False),
        ("made_at at time zone 'UTC'", "time", False),
        ("made_at::timestamp with time zone", "zone", False),
        ("extract(year from made_at)", "year", False),
        ("coalesce(old.note, '')", "note", False),
        ("(select u.name from auth_user u where u.id = author_id)", "name", False),
        ("(select u.name from auth_user u where u.id = author_id)", "author_id", True),
        ('"a""b"', 'a"b', True),
        ("Größe * 2", "größe", True),
    ],
)
def test_a_mapper_mentions_a_column_only_as_a_name(expression: str, column: str, found: bool) -> None:
    assert expressions.mentions(expression, column) is found


def test_a_new_column_with_the_name_of_a_type_that_a_mapper_casts_to_is_stashed() -> None:
    old = catalogue(table("memo", column("id"), column("kind", "text")))
    new = catalogue(table("memo", column("id"), column("kind_no"), column("text", "text")))
    mapping = plan_mapping(old, new, mappers={"memo": {"kind": "kind_no::text"}})
    assert mapping.problems == () and mapping.tables[0].stash == ("text",)


def test_a_round_trip_that_looked_at_nothing_has_failed() -> None:
    nothing = WayBack(())
    assert doubtful(nothing, RoundTrip((), 0.0)) == ("The round trip looked at no table.",)
    good = TableTrip("public.item", 3, 0, 0, {})
    assert doubtful(nothing, RoundTrip((good,), 0.0)) == () and RoundTrip((good,), 0.0).whole
    for bad in (
        TableTrip("t", 3, 1, 0, {}),
        TableTrip("t", 3, 0, 1, {}),
        TableTrip("t", 3, 0, 0, {"a": 1}),
        TableTrip("t", 3, 0, 0, {}, failed="division by zero"),
    ):
        assert len(doubtful(nothing, RoundTrip((good, bad), 0.0))) == 1 and not RoundTrip((good, bad), 0.0).whole


def test_rows_that_a_migration_adds_or_removes_may_be_so_where_the_plan_says_it() -> None:
    old = catalogue(table("item", column("id")), Table("public", "event", (column("id"),)))
    mapping = plan_mapping(old, old)
    more, both = TableTrip("public.item", 3, 0, 1, {}), TableTrip("public.item", 3, 2, 1, {"a": 1})
    added, all_ = Accepted.of(old, ["item", "gone"], []), Accepted.of(old, ["item", "event"], ["item", "event"])
    assert "put added_rows = true into [wayback.tables.item]" in doubtful(mapping, RoundTrip((more,), 0.0))[0]
    assert doubtful(mapping, RoundTrip((more,), 0.0), added) == ()
    assert "removed_rows = true" in doubtful(mapping, RoundTrip((both,), 0.0), added)[1]
    assert doubtful(mapping, RoundTrip((both,), 0.0), all_) == ("item.a: 1 values do not come back",)
    # Without a key a row that was changed looks like one that is gone and another that is new.
    changed, fewer = TableTrip("public.event", 3, 1, 1, {}), TableTrip("public.event", 3, 1, 0, {})
    assert len(doubtful(mapping, RoundTrip((changed,), 0.0), all_)) == 1
    assert doubtful(mapping, RoundTrip((fewer,), 0.0), all_) == ()


def test_what_a_cache_forgot_is_no_doubt() -> None:
    one = catalogue(table("item", column("id")))
    forgotten = RoundTrip((TableTrip("public.item", 3, 2, 1, {"a": 1}),), 0.0)
    assert len(doubtful(plan_mapping(one, one), forgotten)) == 2
    assert doubtful(plan_mapping(one, one), forgotten, Accepted.of(one, (), (), ["item", "another"])) == ()


def test_a_table_that_vanished_without_a_word_is_a_problem_until_the_plan_names_it() -> None:
    old, new = catalogue(table("item", column("id"))), catalogue(table("thing", column("id")))
    assert "item stays as it was" in plan_mapping(old, new).problems[0]
    assert plan_mapping(old, new, mappers={"item": {}}).problems == ()


def test_rows_that_only_the_new_schema_can_tell_apart_are_a_problem() -> None:
    old = catalogue(table("item", column("id", not_null=True), key=()))
    mapping = plan_mapping(old, catalogue(table("item", column("id"))))
    assert mapping.problems == ("item: id names a row in the new schema, but not in the old one.",)


def test_tables_that_came_or_went_since_change_no_rule_and_everything_else_does() -> None:
    item, tag, thing = (table(name, column("id")) for name in ("item", "tag", "thing"))
    found = operations(effect("table-created", "tag"))
    proven = plan_mapping(catalogue(item, thing), catalogue(item, thing, tag), found)

    def since(*tables: Table) -> tuple[str, ...]:
        return changed_rules(proven, plan_mapping(catalogue(item, thing), catalogue(*tables), found))

    later = Table("tenant", "item", item.columns, item.primary_key, item.uniques)
    assert since(item, thing, tag) == since(item, thing, tag, later, table("log", column("at", "date"))) == ()
    assert since(item, thing) == since(item, tag) == ()
    assert since(table("item", column("id"), column("vat")), thing, tag) == ()
    assert since(table("item", column("id", "bigint")), table("thing", column("no"), key=("no",)), tag) == (
        "public.item",
        "public.thing",
    )
    # What lost its table and found another one of its name goes by another rule.
    assert since(later, thing, tag) == ("public.item",)
    renamed = plan_mapping(
        catalogue(item, thing),
        catalogue(item, thing, tag),
        operations(effect("model-renamed", "item", "item", "shop.Item"), effect("table-created", "tag")),
    )
    assert changed_rules(proven, renamed) == ("renamed models",)


def test_an_operation_that_may_move_values_itself_leaves_nothing_that_it_removes_undoubted() -> None:
    old = catalogue(table("item", column("id"), column("a")), table("gone", column("id")))
    removals = [effect("column-removed", "item", "item", "a"), effect("table-deleted", "gone")]
    found = [replace(one, opaque=True) for one in removals]
    mapping = plan_mapping(old, catalogue(table("item", column("id"))), operations(*found))
    assert [problem.partition(" ")[0] for problem in mapping.problems] == ["item.a", "gone"]
    assert mapping.kept == {"public.gone": "shop.0002_next: table-deleted gone"}


def test_a_table_that_goes_after_a_data_migration_is_a_problem_until_a_person_says_that_it_may_stay() -> None:
    old, new = (
        catalogue(table("item", column("id")), table("gone", column("id"))),
        catalogue(table("item", column("id"))),
    )
    found = operations(DATA, effect("table-deleted", "gone"))
    (problem,) = plan_mapping(old, new, found).problems
    assert problem.startswith("gone stays as it was at the safe point") and "[wayback.tables.gone]" in problem
    assert plan_mapping(old, new, found, {"gone": {}}).problems == ()
    assert plan_mapping(old, new, operations(effect("table-deleted", "gone"), DATA)).problems == ()


@pytest.mark.parametrize(
    ("apps", "doubted"),
    [
        ({"billing.0001": ("billing", "shop"), "shop.0002_next": ("shop",)}, True),
        ({"billing.0001": ("billing",), "shop.0002_next": ("billing", "shop")}, True),
        ({"billing.0001": ("auth", "billing"), "shop.0002_next": ("auth", "shop")}, False),
        ({}, True),  # nobody asked
    ],
)
def test_a_data_migration_of_another_app_raises_a_doubt_where_either_knows_the_other(
    apps: dict[str, tuple[str, ...]], doubted: bool
) -> None:
    old = catalogue(table("item", column("id"), column("a")))
    data = replace(DATA, migration="billing.0001")
    found = replace(operations(data, effect("column-removed", "item", "item", "a")), apps=apps)
    assert Operations.from_json(json.loads(json.dumps(found.as_json()))) == found
    mapping = plan_mapping(old, catalogue(table("item", column("id"))), found)
    assert [problem.partition(" ")[0] for problem in mapping.problems] == ["item.a"] * doubted
    assert not doubted or "billing.0001: Raw Python operation" in mapping.problems[0]


def test_a_tables_rule_takes_no_longer_to_find_where_there_are_many_tables() -> None:
    # A schema for each tenant. The way back is worked out again while the site is closed.
    tables = [
        Table(f"tenant_{n // 50}", f"app_model{n % 50}", (column("id"),), ("id",), (Unique("pk", ("id",), ("id",)),))
        for n in range(8_000)
    ]
    many = Catalogue({one.name: one for one in tables})
    states = {f"app_model{n}": n for n in range(50)}
    began = time.process_time()
    assert len(plan_mapping(many, many, operations(DATA)).tables) == 8_000
    assert many.of_django(states, tables[7]) == 7
    assert sum(many.of_django(states, one) is not None for one in tables) == 50  # of the first schema
    assert time.process_time() - began < 6  # some 15 s where each table was held against all of them
