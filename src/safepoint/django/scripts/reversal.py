# mypy: ignore-errors
"""Migrations undone by the project's own `migrate`, app by app, the last one applied first. Django 4.2 to 6."""

import io
import time

from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

# As `inspector.IDENTITY`: this script is piped into the project, where nothing of Safepoint can be imported.
_IDENTITY = """
    select oid::text || '@' || extract(epoch from pg_postmaster_start_time())::text
    from pg_database where datname = current_database()
"""


def answer(parameters):
    """What was undone until the end, or until the first error; in another database than is meant, nothing."""
    alias, labels = parameters["database"], parameters["migrations"]
    with connections[alias].cursor() as cursor:
        cursor.execute(_IDENTITY)
        here = cursor.fetchone()[0]
    if here != parameters["identity"]:
        return {"elsewhere": here}
    said, began, failed = io.StringIO(), time.monotonic(), []
    error, migration, refused = None, None, None
    try:
        with connections[alias].execute_wrapper(noting(failed)):
            for app, target in targets(alias, labels):
                call_command(
                    "migrate", app, target, database=alias, interactive=False, verbosity=1, no_color=True, stdout=said
                )
    except Exception as raised:
        error = type(raised).__name__ + ": " + without_rows(str(raised))
        migration = unfinished(said.getvalue())
        refused = diagnosed(raised, failed)
    left = [label for label in labels if tuple(label.split(".", 1)) in applied(alias)]
    return {
        "error": error,
        "migration": migration,
        "left": left,
        "seconds": time.monotonic() - began,
        "said": said.getvalue()[-4000:],
        "refused": refused,
    }


def noting(failed):
    """Notes each statement that fails, with its error."""

    def note(execute, sql, params, many, context):
        try:
            return execute(sql, params, many, context)
        except Exception as error:
            failed.append((error, str(sql)))
            raise

    return note


def diagnosed(raised, failed):
    """What PostgreSQL says of its refusal, in fields; None where the error is none of its."""
    chain = []
    while raised is not None:
        chain.append(raised)
        raised = raised.__cause__
    diag = next((one.diag for one in chain if getattr(one, "diag", None) is not None), None)
    if diag is None or diag.sqlstate is None:
        return None
    return {
        "sqlstate": diag.sqlstate,
        "statement": next((sql for error, sql in failed if error in chain), ""),
        "schema": diag.schema_name,
        "table": diag.table_name,
        "column": diag.column_name,
        "constraint": diag.constraint_name,
        "detail": diag.message_detail,
    }


def without_rows(text):
    """The message without the row that it may show: anybody's data, its secrets too."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("DETAIL:  Failing row contains"))


def targets(alias, labels):
    """For each app of these migrations, the last one that stays applied: `migrate APP TARGET`."""
    loader = MigrationExecutor(connections[alias]).loader
    found = []
    for label in reversed(labels):
        app = label.split(".", 1)[0]
        if app in dict(found):
            continue
        stays = {key for key in loader.applied_migrations if key[0] == app and ".".join(key) not in labels}
        stays = {key for key in stays if key in loader.graph.nodes}
        heads = [key for key in sorted(stays) if not children(loader.graph, key) & stays]
        found.append((app, heads[-1][1] if heads else "zero"))
    return found


def children(graph, key):
    """The migrations of the same app that build on this one."""
    return {node.key for node in graph.node_map[key].children if node.key[0] == key[0]}


def applied(alias):
    """What the database says is applied."""
    return set(MigrationExecutor(connections[alias]).loader.applied_migrations)


def unfinished(said):
    """The migration that was being undone when the output stopped."""
    last = said.rsplit("Unapplying ", 1)
    if len(last) < 2 or " OK" in last[1]:
        return None
    return last[1].split("...", 1)[0].strip()
