# mypy: ignore-errors
"""States of which only the models around one operation are made, for `sql`. Django 4.2 to 6, Python 3.8 or newer.

To make all models of a large project takes Django a tenth of a second and more, and twice for each operation.
"""

from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import ModelOperation, RenameModel
from django.db.migrations.state import ProjectState
from safepoint_tables import leads, registry_of

_OWN = ("django.db.migrations.operations.fields", "django.db.migrations.operations.models")


def narrowed(operation, app, *states):
    """The states as far as an operation of Django's own looks at them; None where nobody knows how far it does."""
    if type(operation).__module__ not in _OWN:
        return None
    names = [getattr(operation, name, None) for name in ("model_name", "old_name", "new_name")]
    if isinstance(operation, FieldOperation):
        names = names[:1]  # the others are a field's
    elif isinstance(operation, ModelOperation):
        names.append(operation.name)
    wanted = {(app, name.lower()) for name in names if isinstance(name, str)}
    if seen_by_others(operation, wanted, states):
        wanted |= following({key: model for state in states for key, model in state.models.items()}, wanted)
    return [narrow(state, wanted) for state in states] if wanted else None


def seen_by_others(operation, wanted, states):
    """Whether it may have to change what refers to the model: by another name of that, or another key."""
    if not isinstance(operation, FieldOperation):
        return isinstance(operation, RenameModel)
    names = {getattr(operation, name, None) for name in ("name", "old_name", "new_name")}
    fields = [model.fields.get(name) for state in states for name in names for model in models_of(state, wanted)]
    return any(field is not None and (field.primary_key or field.unique) for field in fields)


def models_of(state, wanted):
    """Those of these models that the state has."""
    return [state.models[key] for key in wanted if key in state.models]


def following(models, wanted):
    """The models that refer to these; and, where they do so by a key of their own, those that refer to them in turn:
    with the type of the one key that of the others changes."""
    found, due = set(), set(wanted)
    while due:
        those = {key for key, model in models.items() if leads(key, model) & due}
        due = {key for key in those - found - wanted if leads(key, models[key], True) & due}
        found |= those
    return found


def narrow(state, wanted):
    """The same state with these models made, and what they lead to."""
    same = ProjectState(state.models, real_apps=state.real_apps)
    same.apps = registry_of(state, wanted)
    return same
