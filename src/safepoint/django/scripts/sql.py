# mypy: ignore-errors
"""The SQL of migrations, both ways, operation by operation, as `sqlmigrate` writes it. Django 4.2 to 6.

Nothing is run: the schema editor collects. An operation may look into the database all the same (for the name of a
constraint), and what an earlier migration would have made is not there yet; that is answered, and no error.

Django collects one way at a time, makes the models' state before each migration from nothing, and renders them before
and after each operation anew: that is nearly all of the time it takes. Here what one operation leaves is what the next
one finds, also that of the next migration, both ways share it, and only the models around an operation are made.
"""

from django.db import Error, connections
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState
from safepoint_narrow import narrowed


def answer(parameters):
    """The migrations named with their SQL: `forward` and `backward` are lists of statements, or None and an error."""
    executor = MigrationExecutor(connections[parameters["database"]])
    leaves = executor.loader.graph.leaf_nodes()
    wanted = parameters["migrations"]
    pending = {migration for migration, backwards in executor.migration_plan(leaves) if not backwards}
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    plan = [migration for migration, _ in executor.migration_plan(leaves, clean_start=True)]
    for migration in plan:
        if migration not in pending:
            state = migration.mutate_state(state, preserve=False)
    found = []
    for migration in plan:
        label = migration.app_label + "." + migration.name
        if migration not in pending:
            continue
        if wanted is not None and label not in wanted:
            state = migration.mutate_state(state)
            continue
        one, states = {"label": label}, [state]
        for way, work in (("forward", forward), ("backward", backward)):
            one[way], one[way + "_error"] = collect(executor, migration, work, states)
        found.append(one)
        state = bare(states[-1])
    return {"migrations": found}


def bare(state):
    """The same state, its models no classes yet: where they are, each operation to come would have them made anew."""
    return ProjectState({key: model.clone() for key, model in state.models.items()}, real_apps=state.real_apps)


def collect(executor, migration, work, states):
    """The statements of one migration in one direction, and why there are none.

    `states` has the one before the migration, and is filled once for both with those after each operation.
    """
    try:
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
    length, app = len(editor.collected_sql), migration.app_label
    few, deferred = narrowed(operation, app, before, after), list(editor.deferred_sql)
    try:
        work(app, editor, *(few or (before, after)))
    except Exception as error:  # it may have asked for a model that it was not given
        if few is None or isinstance(error, Error):
            raise
        del editor.collected_sql[length:]
        editor.deferred_sql[:] = deferred
        work(app, editor, before, after)
    if len(editor.collected_sql) == length:
        editor.collected_sql.append("-- (no-op)")
