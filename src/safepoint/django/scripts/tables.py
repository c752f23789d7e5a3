# mypy: ignore-errors
"""The tables and columns that the models of a state mean, for `operations`. Django 4.2 to 6, Python 3.8 or newer."""


def tables(state, connection):
    """The tables of all models by a name that lasts: `app.model`, or `app.model.field` of a many-to-many table."""
    found = {}
    for model in state.apps.get_models(include_auto_created=True):
        meta = model._meta
        if meta.proxy or not meta.managed or meta.swapped:
            continue
        key = meta.label_lower
        names = [field.name for field in meta.local_fields]
        if meta.auto_created:
            owner = meta.auto_created._meta
            if (owner.app_label, owner.model_name) not in state.models and owner.app_label not in state.real_apps:
                continue  # its model was deleted, and Django's registry keeps it
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
