# mypy: ignore-errors
"""The SQL of migrations, both ways, operation by operation, as `sqlmigrate` writes it. Django 4.2 to 6.

Nothing is run: the schema editor collects. An operation may look into the database all the same (for the name of a
constraint), and what an earlier migration would have made is not there yet; that is answered, and no error.

Django collects one way at a time, and renders the models before and after each operation anew for each: that is nearly
all of the time it takes. Here what one operation leaves is what the next one finds, and both ways share it.
"""

from django.db import connections
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor


def answer(parameters):
    """The migrations named with their SQL: `forward` and `backward` are lists of statements, or None and an error."""
    executor = MigrationExecutor(connections[parameters["database"]])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    wanted = parameters["migrations"]
    found = []
    for migration, backwards in plan:
        label = migration.app_label + "." + migration.name
        if backwards or (wanted is not None and label not in wanted):
            continue
        one, states = {"label": label}, []
        for way, work in (("forward", forward), ("backward", backward)):
            one[way], one[way + "_error"] = collect(executor, migration, work, states)
        found.append(one)
    return {"migrations": found}


def collect(executor, migration, work, states):
    """The statements of one migration in one direction, and why there are none.

    `states` are filled once for both: the one before the migration, then those after each operation.
    """
    try:
        if not states:
            states.append(executor.loader.project_state((migration.app_label, migration.name), at_end=False))
        for operation in migration.operations[len(states) - 1 :]:
            following = states[-1].clone()
            operation.state_forwards(migration.app_label, following)
            states.append(following)
        with executor.connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
            work(migration, editor, states)
        return list(editor.collected_sql), None
    except Exception as error:
        return None, type(error).__name__ + ": " + str(error)


def forward(migration, editor, states):
    """What carries it out."""
    for number, operation in enumerate(migration.operations):
        write(operation, editor, operation.database_forwards, migration, states[number], states[number + 1])


def backward(migration, editor, states):
    """What undoes it."""
    for operation in migration.operations:
        if not operation.reversible:
            raise IrreversibleError(f"Operation {operation} in {migration} is not reversible")
    for number, operation in reversed(list(enumerate(migration.operations))):
        write(operation, editor, operation.database_backwards, migration, states[number + 1], states[number])


def write(operation, editor, work, migration, before, after):
    """One operation, under the comment that `sqlmigrate` puts over it."""
    editor.collected_sql += ["--", f"-- {operation.describe()}", "--"]
    if not operation.reduces_to_sql:
        editor.collected_sql.append("-- THIS OPERATION CANNOT BE WRITTEN AS SQL")
        return
    length = len(editor.collected_sql)
    work(migration.app_label, editor, before, after)
    if len(editor.collected_sql) == length:
        editor.collected_sql.append("-- (no-op)")
