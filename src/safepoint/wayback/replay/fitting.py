"""Whether a row fits into its old table by itself: types, NOT NULL, CHECK, and what expressions of its indexes say."""

from __future__ import annotations

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping import expressions
from safepoint.wayback.mapping.catalogue import Catalogue, Exclusion, Table, Unique
from safepoint.wayback.mapping.expressions import NULL, literal, quote
from safepoint.wayback.mapping.tenants import TENANT, lists_tenants
from safepoint.wayback.replay.compaction import typed
from safepoint.wayback.replay.statements import failing, run
from safepoint.wayback.replay.work import Scope, Work


def put_aside_unasked(connection: Connection, work: Work) -> int:
    """Rows of which a rule's expression cannot be worked out (a cast in it fails): the old table would not take them.

    Returns:
        How many rows were put aside.
    """
    asked = [f"({check})" for _, check in work.old.checks]
    rules: list[Unique | Exclusion] = [*work.old.uniques, *work.old.exclusions]
    for one in rules:
        values = f"num_nulls({', '.join(f'({expression})' for expression in one.expressions)})"
        asked.append(f"CASE WHEN {one.predicate} THEN {values} END" if one.predicate else values)
    whole = 0
    for expression in asked:
        statement = (
            f"SELECT count({expression}) FROM {work.out} "
            f"WHERE _sp_n IN (SELECT c.n FROM {work.change} c WHERE c.verdict IS NULL)"
        )
        listing = f"SELECT n FROM (SELECT _sp_n AS n FROM {work.out}) l WHERE true"
        for n, said in failing(connection, statement, listing, "_sp_n"):
            connection.execute(
                sql.SQL(f"UPDATE {work.change} SET verdict = 'value', reason = %s WHERE n = %s"), [said, n]
            )
            connection.execute(sql.SQL(f"DELETE FROM {work.out} WHERE _sp_n = %s"), [n])  # nothing asks it any more
            whole += 1
    return whole


def put_aside_misfits(connection: Connection, work: Work, old: Catalogue, scope: Scope) -> None:
    """Rows that the old table would not take, whatever else is in it."""
    _losses(connection, work, old, scope)
    _own_rules(connection, work, old)


def _losses(connection: Connection, work: Work, old: Catalogue, scope: Scope) -> None:
    """Values that the old type holds only cut or rounded; of tables without a key `keyless` has seen to them."""
    lost = losses(work, old)
    if not lost or not work.rule.key:
        return
    run(
        connection,
        f"UPDATE {work.change} c SET verdict = 'value', reason = x.why FROM "
        f"(SELECT out._sp_n AS n, {lost} AS why FROM {work.out} out "
        f"JOIN {typed(work, scope)} new ON new._sp_at = out._sp_n) x "
        f"WHERE x.n = c.n AND x.why IS NOT NULL AND c.verdict IS NULL",
    )


def losses(work: Work, old: Catalogue) -> str:
    """Why the row `out`, in old types, says no longer what `new` says, as SQL; empty where no type differs. Pure."""
    cases = []
    for rule in work.rule.columns:
        if rule.kind == "retyped" and rule.new is not None:
            before, now = work.old.by_name[rule.column], work.new.by_name[rule.new]
            words = literal(f"{rule.column} does not fit into {before.type}")
            cases.append(f"WHEN {expressions.loss(before, now, old.casts)} THEN {words}")
    return f"CASE {' '.join(cases)} END" if cases else ""


def _own_rules(connection: Connection, work: Work, old: Catalogue) -> None:
    """NOT NULL, CHECK, and ids and schemas that only the new database has: what looks at one row alone."""
    cases = [
        f"WHEN {quote(column.name)} {NULL} THEN {literal(f'{column.name} would be NULL')}"
        for column in work.old.columns
        if column.not_null
    ]
    # Where a constraint looks for it, that tells it; else nobody would see that an id is of nothing the twin has.
    bound = {key.columns for key in work.old.foreign_keys}
    cases += [
        f"WHEN {quote(rule.column)} < 0 THEN {literal(f'what {rule.column} names is not there')}"
        for rule in work.rule.columns
        if rule.kind == "remapped" and (rule.column,) not in bound
    ]
    cases += _tenants(work.old, old)
    cases += [f"WHEN NOT ({check}) THEN {literal(f'check {name}')}" for name, check in work.old.checks]
    if cases:
        run(
            connection,
            f"UPDATE {work.change} c SET verdict = 'value', reason = x.why FROM "
            f"(SELECT _sp_n AS n, CASE {' '.join(cases)} END AS why FROM {work.out} out) x "
            f"WHERE x.n = c.n AND x.why IS NOT NULL AND c.verdict IS NULL",
        )


def _tenants(table: Table, old: Catalogue) -> list[str]:
    """A tenant made since, by the column that django-tenants has for its schema: the old release would look for one
    that is not there, and could not so much as be asked for its migrations."""
    if not lists_tenants(old, table):
        return []
    place = f"{quote(table.schema)}.{quote(table.relation)}"
    return [
        f"WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = out.{quote(TENANT)}) "
        f"AND NOT EXISTS (SELECT FROM {place} t WHERE t.{quote(TENANT)} = out.{quote(TENANT)}) "
        f"THEN {literal('the old database has no schema of that name: the tenant was made since')}"
    ]
