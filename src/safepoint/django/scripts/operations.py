# mypy: ignore-errors
"""What migrations do to tables and columns, operation by operation. Runs on Django 4.2 to 6, Python 3.8 or newer.

The state of the models before and after each operation is compared, so that an operation of somebody's own that is
made from Django's is understood as well. Nothing is run on the database.
"""

import re

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState
from django.db.models.options import normalize_together
from django.utils.module_loading import import_string
from safepoint_tables import renewed, tables

# These change no table and no column. RunSQL may have operations for the state, and is looked at.
_NO_COLUMNS = (
    "RunPython",
    "RunSQL",
    "AddIndex",
    "RemoveIndex",
    "RenameIndex",
    "AddConstraint",
    "RemoveConstraint",
    "AlterConstraint",
    "AlterModelOptions",
    "AlterModelManagers",
    "AlterUniqueTogether",
    "AlterIndexTogether",
    "AlterModelTableComment",
)

# No change of the column's values.
_IGNORED = {"column": 0, "references": 0, "db_default": 0}
_TABLES = re.compile(r"\b(?:CREATE|ALTER|DROP)\s+(?:UNLOGGED\s+)?TABLE\b", re.IGNORECASE)

_NAME = r'("(?:[^"]|"")+"|[^\s".;]+)'
_RENAMED = re.compile(
    r"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?:"
    + _NAME
    + r"\s*\.\s*)?"
    + _NAME
    + r"\s+RENAME\s+TO\s+"
    + _NAME,
    re.IGNORECASE,
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def answer(parameters):
    """The migrations named (or those pending), their operations with effects, and the tables before and after."""
    connection = connections[parameters["database"]]
    executor = MigrationExecutor(connection)
    leaves = executor.loader.graph.leaf_nodes()
    wanted = parameters["migrations"]
    if wanted is None:
        wanted = [label(migration) for migration, backwards in executor.migration_plan(leaves) if not backwards]
    everything = [migration for migration, _ in executor.migration_plan(leaves, clean_start=True)]
    state = ProjectState(real_apps=executor.loader.unmigrated_apps)
    for migration in everything:
        if label(migration) not in wanted:
            state = migration.mutate_state(state, preserve=False)
    before = now = tables(state, connection)
    found = []
    for migration in everything:
        if label(migration) in wanted:
            operations, state, now = walk(migration, state, now, connection)
            plan = executor.loader.graph.forwards_plan((migration.app_label, migration.name))
            apps = sorted({app for app, _ in plan})
            found.append({"app": migration.app_label, "name": migration.name, "operations": operations, "apps": apps})
    told = {"generic": generic(), "caches": cache_tables()}
    return {"migrations": found, "before": public(before), "after": public(now), **told}


def generic():
    """By table the columns of generic foreign keys: content type and key. Only the models themselves have these."""
    found = {}
    for model in apps.get_models():
        meta = model._meta
        if meta.proxy:
            continue
        for field in meta.private_fields:
            if not (hasattr(field, "ct_field") and hasattr(field, "fk_field")):
                continue
            pair = [meta.get_field(name) for name in (field.ct_field, field.fk_field)]
            if all(one.model is model for one in pair):  # a child of it has them in its parent's table
                found.setdefault(meta.db_table, []).append([one.column for one in pair])
    return found


def cache_tables():
    """The tables of caches that are kept in a database."""
    return sorted({str(given.get("LOCATION", "")) for given in settings.CACHES.values() if in_database(given)})


def in_database(given):
    """Whether it is such a cache; what cannot be loaded is told where caches are cleared."""
    try:
        return any(kind.__name__ == "BaseDatabaseCache" for kind in import_string(given["BACKEND"]).__mro__)
    except Exception:
        return False


def label(migration):
    """`app.0002_name`."""
    return migration.app_label + "." + migration.name


def walk(migration, state, now, connection):
    """The operations of one migration with their effects; the state and the tables after it."""
    operations, renamed = [], []
    for operation in migration.operations:
        app = migration.app_label
        following, then, found = step(operation, app, state, now, connection)
        operations.append(
            {
                "migration": label(migration),
                "kind": type(operation).__name__,
                "text": str(operation.describe()),
                "opaque": bool(opaque(operation)),
                "table": table_of(operation, migration.app_label, now)
                or table_of(operation, migration.app_label, then),
                "hides": bool(hides(operation)),
                "loosens": bool(loosens(operation, app, state)),
                "effects": found,
            }
        )
        renamed.append(sql_renames(operation))
        state, now = following, then
    # SQL that gives a table the name that a model has from then on, which the state takes for a new one: so a
    # many-to-many table becomes a model's own.
    meant = {table["table"]: key for key, table in now.items()}
    for told, pairs in zip(operations, renamed):  # noqa: B905 - Python 3.8 has no `strict`
        known = [(old, new) for old, new in pairs if new in meant and old not in meant]
        told["effects"] = (
            claims([effect("table-renamed", meant[new], old, new) for old, new in known]) + told["effects"]
        )
    return operations, state, now


def sql_renames(operation):
    """The tables that RunSQL, on either level, renames: each name before and after it, as a model would have it."""
    inner = [pair for one in getattr(operation, "database_operations", ()) for pair in sql_renames(one)]
    if not any(kind.__name__ == "RunSQL" for kind in type(operation).__mro__):
        return inner
    names = [[_folded(name) for name in found] for found in _RENAMED.findall(_COMMENTS.sub(" ", sql_of(operation.sql)))]
    qualified = [(schema + '"."' + old, schema + '"."' + new) for schema, old, new in names if schema]
    return [(old, new) for _, old, new in names] + qualified


def _folded(name):
    """A name as PostgreSQL reads it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def step(operation, app, state, now, connection):
    """The state and the tables after one operation, and its effects."""
    following = state.clone()
    operation.state_forwards(app, following)
    # An operation of somebody's own may change what states share.
    look = renewed if djangos(operation) else _anew
    then = look(state, following, now, connection)
    if quiet(operation):
        # A model that Django shall manage from now on, or no longer, keeps its table: only the operations that follow
        # see another one.
        return following, then, []
    if two_sided(operation):
        return following, then, sides(operation, app, state, now, then, connection)
    found = effects(operation, app, now, then)
    return following, then, claims(found) if opaque(operation) else found


def two_sided(operation):
    """Whether what it does to the database and what it does to the state are given each by itself."""
    return hasattr(operation, "state_operations")


def sides(operation, app, state, before, after, connection):
    """What becomes of tables and columns by an operation with two sides: SeparateDatabaseAndState, or RunSQL.

    The database's side says it, from state to state as Django itself runs it. Beside SQL or code the state's side is
    all that is said of what these do: a claim. By itself it changes no table; what it renames is claimed all the same,
    for SQL before it may have made what the models mean from now on.
    """
    known = inside(getattr(operation, "database_operations", ()), app, state, before, connection)
    try:
        said = inside(operation.state_operations, app, state, before, connection)
    except Exception:  # a state in between that Django never renders
        said = effects(operation, app, before, after)
    found = [one for one in said if one["what"] == "model-renamed"]
    found += [one for one in known if one["what"] != "model-renamed"]
    more = [one for one in said if one not in found]
    return found + claims(more if opaque(operation) else [one for one in more if one["what"].endswith("-renamed")])


def inside(operations, app, state, now, connection):
    """The effects of operations within another one."""
    found = []
    for operation in operations:
        state, now, more = step(operation, app, state, now, connection)
        found.extend(more)
    return found


def claims(found):
    """Effects that SQL or code of somebody's own has, as the models' state says: nobody else knows."""
    return [{**one, "claimed": one["what"] != "model-renamed"} for one in found]


def quiet(operation):
    """Whether it is one of those that change no table and no column, and changes the state as Django's own does."""
    if any(kind.__name__ == "RunSQL" for kind in type(operation).__mro__) and operation.state_operations:
        return False
    return any(kind.__name__ in _NO_COLUMNS for kind in type(operation).__mro__) and djangos(operation)


def djangos(operation):
    """Whether it, and all that is inside it, changes the models' state as Django's own operations do."""
    changes = next(kind for kind in type(operation).__mro__ if "state_forwards" in vars(kind))
    own = changes.__module__.startswith("django.")
    return own and all(djangos(one) for one in getattr(operation, "state_operations", ()))


def _anew(_state, following, _now, connection):
    return tables(following, connection)


def opaque(operation):
    """Whether it may change rows, or structure that Django's state does not know of."""
    if any(opaque(one) for one in getattr(operation, "database_operations", ())):
        return True
    if idle(operation):
        return False
    if any(kind.__name__ in ("RunPython", "RunSQL") for kind in type(operation).__mro__):
        return True
    return not type(operation).__module__.startswith(("django.db.migrations.", "django.contrib."))


def idle(operation):
    """Whether it does something backwards alone: Django's own RunPython or RunSQL, with `noop` forwards."""
    if type(operation).__module__ == "django.db.migrations.operations.special":
        if hasattr(operation, "code"):
            return operation.code is type(operation).noop
        return hasattr(operation, "sql") and not operation.state_operations and not sql_of(operation.sql).strip()
    return False


def table_of(operation, app, found):
    """The table of the model that the operation names; None where it names none."""
    name = getattr(operation, "model_name", None)
    if name is None and any(kind.__name__ == "ModelOptionOperation" for kind in type(operation).__mro__):
        name = operation.name
    known = found.get(app + "." + name.lower()) if isinstance(name, str) else None
    return known["table"] if known else None


def loosens(operation, app, state):
    """Whether it says which columns are unique together, and asks nothing of a row that was not asked before."""
    if not any(kind.__name__ == "AlterUniqueTogether" for kind in type(operation).__mro__):
        return False
    options = state.models[app, operation.name_lower].options
    before = [set(columns) for columns in normalize_together(options.get("unique_together", ()))]
    # What is unique by some columns is so by more of them.
    # None where Django takes the rule away before it deletes the model.
    return all(any(one.issubset(columns) for one in before) for columns in operation.option_value or ())


def hides(operation):
    """Whether it is SQL that makes, changes or removes tables of which the models' state hears nothing."""
    if any(kind.__name__ == "RunSQL" for kind in type(operation).__mro__):
        return not operation.state_operations and bool(_TABLES.search(sql_of(operation.sql)))
    return False


def sql_of(given):
    """The text of what RunSQL takes: a text, or a list of texts and of pairs of text and parameters."""
    if isinstance(given, (list, tuple)):
        return "; ".join(str(one[0] if isinstance(one, (list, tuple)) else one) for one in given)
    return str(given)


def effects(operation, app, before, after):
    """What became of each table and column by this operation."""
    if before is after:
        return []
    found = []
    renamed, fields = renames(operation, app, before)
    for key, table in before.items():
        successor = after.get(renamed.get(key, key))
        if successor is None:
            found.append(effect("table-deleted", key, table["table"], table["table"]))
            continue
        if renamed.get(key, key) != key:
            found.append(effect("model-renamed", key, table["table"], successor["table"], renamed[key]))
        if successor["table"] != table["table"]:
            found.append(effect("table-renamed", key, table["table"], successor["table"]))
        found.extend(column_effects(key, table, successor, fields.get(key, {})))
    known = {renamed.get(key, key) for key in before}
    for key, table in after.items():
        if key not in known:
            found.append(effect("table-created", key, table["table"], table["table"]))
    return found


def renames(operation, app, before):
    """Names that this operation changes: of models (many-to-many tables with them), and of fields by model."""
    kinds = {kind.__name__ for kind in type(operation).__mro__}
    models, fields = {}, {}
    if "RenameModel" in kinds:
        old, new = app + "." + operation.old_name_lower, app + "." + operation.new_name_lower
        for key in before:
            if key == old or key.startswith(old + "."):
                models[key] = new + key[len(old) :]
    if "RenameField" in kinds:
        model = app + "." + operation.model_name_lower
        fields[model] = {operation.old_name: operation.new_name}
        if model + "." + operation.old_name in before:
            models[model + "." + operation.old_name] = model + "." + operation.new_name
    return models, fields


def column_effects(key, table, successor, renamed):
    """What became of the columns of one table."""
    found = []
    names = {name: renamed.get(name, name) for name in table["columns"]}
    for name, column in table["columns"].items():
        then = successor["columns"].get(names[name])
        if then is None:
            found.append(effect("column-removed", key, table["table"], successor["table"], column["column"]))
            continue
        if then["column"] != column["column"]:
            words = (column["column"], then["column"])
            found.append(effect("column-renamed", key, table["table"], successor["table"], *words))
        if {**then, **_IGNORED} != {**column, **_IGNORED}:
            words = (then["column"], None, column, then)
            found.append(effect("column-altered", key, table["table"], successor["table"], *words))
    for name, column in successor["columns"].items():
        if name not in names.values():
            words = (column["column"], None, None, column)
            found.append(effect("column-added", key, table["table"], successor["table"], *words))
    return found


def effect(what, model, before, after, column=None, now=None, was=None, becomes=None):
    """One line of a mapping's reasons. `was` and `becomes` say how a column was declared, and how it is now."""
    words = {
        "what": what,
        "model": model,
        "before": before,
        "after": after,
        "name": column,
        "now": now,
        "claimed": False,
    }
    return {**words, "was": declared(was), "becomes": declared(becomes)}


def declared(column):
    """A column as the models mean it, without its name."""
    return None if column is None else {name: value for name, value in column.items() if name != "column"}


def public(found):
    """Tables by their names, columns by theirs."""
    return {
        table["table"]: {
            "model": key,
            "columns": {c["column"]: {k: v for k, v in c.items() if k != "column"} for c in table["columns"].values()},
        }
        for key, table in found.items()
    }
