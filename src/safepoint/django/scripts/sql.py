# mypy: ignore-errors
"""The SQL of migrations, both ways, operation by operation, as `sqlmigrate` collects it. Django 4.2 to 6.

Nothing is run: the schema editor collects. An operation may look into the database all the same (for the name of a
constraint), and what an earlier migration would have made is not there yet; that is answered, and no error.
"""

from django.db import connections
from django.db.migrations.executor import MigrationExecutor


def answer(parameters):
    """The migrations named with their SQL: `forward` and `backward` are lists of statements, or None and an error."""
    connection = connections[parameters["database"]]
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    wanted = parameters["migrations"]
    found = []
    for migration, backwards in plan:
        label = migration.app_label + "." + migration.name
        if backwards or (wanted is not None and label not in wanted):
            continue
        one = {"label": label}
        for way, undo in (("forward", False), ("backward", True)):
            one[way], one[way + "_error"] = collect(executor, migration, undo)
        found.append(one)
    return {"migrations": found}


def collect(executor, migration, undo):
    """The statements of one migration in one direction, and why there are none."""
    try:
        return list(executor.loader.collect_sql([(migration, undo)])), None
    except Exception as error:
        return None, type(error).__name__ + ": " + str(error)
