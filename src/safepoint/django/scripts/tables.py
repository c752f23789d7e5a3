# mypy: ignore-errors
"""The tables and columns that the models of a state mean, for `operations`. Django 4.2 to 6, Python 3.8 or newer."""

from django.apps import apps
from django.db.migrations.state import ModelState, StateApps
from django.db.migrations.utils import resolve_relation

# The options of a model that say something of its table.
_OPTIONS = ("db_table", "managed", "proxy", "swappable", "order_with_respect_to")


def tables(state, connection):
    """The tables of all models by a name that lasts: `app.model`, or `app.model.field` of a many-to-many table."""
    # Of a copy: of a state whose models were made Django makes them again with each change, and what leads to them.
    return entries(state.clone().apps, connection)


def renewed(state, following, now, connection):
    """The tables of the state that follows, of which `now` are those before.

    Only models that differ are made anew, then those that lead to one whose table has come out otherwise: to make all
    of them takes a second an operation in a large project.
    """
    states = {key: [one.models.get(key) for one in (state, following)] for key in {*state.models, *following.models}}
    due, done, then = {key for key, (was, model) in states.items() if differs(was, model)}, set(), now
    while due:
        try:
            fresh = entries(registry_of(following, due), connection, due)
        except Exception:  # a model that asks for others than those that its fields and bases lead to
            return tables(following, connection)
        before = {key: entry for key, entry in then.items() if tuple(key.split(".")[:2]) in due}
        if before != fresh:
            then = {**{key: entry for key, entry in then.items() if key not in before}, **fresh}
        done |= due
        other = {key for key in due if seen_otherwise(before.get(".".join(key)), fresh.get(".".join(key)))}
        due = {key for key, model in following.models.items() if other and leads(key, model) & other} - done
    return then


def seen_otherwise(was, table):
    """Whether those that refer to a model may find another key there."""
    if was is None or table is None:
        return True  # it is new, or has no table of its own (a proxy, one that Django does not manage)
    return any(table["columns"].get(name, column) != column for name, column in was["columns"].items())


def differs(was, model):
    """Whether two states of a model may mean other tables. Copies of a state share the fields that nobody changed."""
    if was is None or model is None or was.bases != model.bases or was.fields.keys() != model.fields.keys():
        return True
    if any(was.fields[name] is not field for name, field in model.fields.items()):
        return True
    return any(was.options.get(name) != model.options.get(name) for name in _OPTIONS)


def leads(key, model, keys_only=False):
    """The models that one is made of and refers to; or those alone without which it has no key to refer to."""
    bases = [base.split(".", 1) for base in model.bases if isinstance(base, str)]
    found = {(app, name.lower()) for app, name in bases}
    for field in model.fields.values():
        if field.remote_field and not (keys_only and not field.primary_key and not field.unique):
            ends = (field.remote_field.model, getattr(field.remote_field, "through", None))
            found.update(resolve_relation(end, *key) for end in ends if end is not None)
    return found


def registry_of(state, wanted):
    """A registry of these models, of those that they lead to, and of what these need for a key."""
    states, due, all_of = {}, set(wanted), set(wanted)
    while due:
        made = {key: state_of(state, key) for key in due}
        states.update((key, model) for key, model in made.items() if model is not None)
        found = [leads(key, model, key not in all_of) for key, model in made.items() if model is not None]
        due = set().union(*found) - states.keys() - due
    registry = StateApps([], {})
    registry.render_multiple(list(states.values()))
    return registry


def state_of(state, key):
    """A model's state; of a model without migrations as Django makes it; None where there is none."""
    if key in state.models or key[0] not in state.real_apps:
        return state.models.get(key)
    try:
        return ModelState.from_model(apps.get_model(*key), exclude_rels=True)
    except LookupError:
        return None


def entries(registry, connection, wanted=None):
    """The tables of a registry's models; of those wanted alone, where that is given."""
    found = {}
    for model in registry.get_models(include_auto_created=True):
        meta = model._meta
        owner = meta.auto_created._meta if meta.auto_created else meta
        left_out = wanted is not None and (owner.app_label, owner.model_name) not in wanted
        if left_out or meta.proxy or not meta.managed or meta.swapped:
            continue
        key = meta.label_lower
        names = [field.name for field in meta.local_fields]
        if meta.auto_created:
            field = next(f for f in owner.local_many_to_many if f.remote_field.through is model)
            key = owner.label_lower + "." + field.name
            sides = {field.m2m_field_name(): "from", field.m2m_reverse_field_name(): "to"}
            names = [sides.get(name, name) for name in names]
        fields = zip(names, meta.local_fields)  # noqa: B905 - Python 3.8 has no `strict`
        columns = {name: column(field, connection) for name, field in fields}
        found[key] = {"table": meta.db_table, "columns": {n: c for n, c in columns.items() if c is not None}}
    return found


def column(field, connection):
    """A field as the database has it; None where it has no column."""
    kind = field.db_type(connection)
    if kind is None or field.column is None:
        return None
    remote = field.remote_field.model._meta.label_lower if field.remote_field else None
    return {
        "column": field.column,
        "type": kind,
        "null": bool(field.null),
        "primary_key": bool(field.primary_key),
        "db_default": has_db_default(field),
        "unique": bool(field.unique),
        "references": remote,
        "default": default(field, connection),
    }


def default(field, connection):
    """What Django writes where nobody gives a value, as text; None where there is none or it is made each time."""
    value = field.default if field.has_default() else None
    if value is None or callable(value):
        # A field of somebody's own has an empty string as well, and may mean another value by it (JSON's empty list).
        texts = (field.db_type(connection) or "").startswith(("varchar", "char", "text", "citext"))
        empty = texts and not field.null and field.empty_strings_allowed and field.blank
        return "" if value is None and empty else None
    try:
        value = field.get_db_prep_save(value, connection)
    except Exception:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = isinstance(value, (str, int, float)) or type(value).__name__ in ("Decimal", "UUID", "date", "datetime")
    return str(value) if plain else None


def has_db_default(field):
    """Whether the database itself fills the column in (Django 5.0 has `db_default`), or counts it."""
    given = getattr(field, "db_default", None)
    counted = field.get_internal_type() in ("AutoField", "BigAutoField", "SmallAutoField", "GeneratedField")
    return counted or (given is not None and getattr(given, "__name__", "") != "NOT_PROVIDED")
