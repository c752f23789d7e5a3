# mypy: ignore-errors
"""What `migrate` would do, by content: each pending migration with the SHA-256 of its file. Django 4.2 to 6."""

import hashlib
import re
import sys
from pathlib import Path

from django.conf import settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_DEFINES = re.compile(
    r"\s*(?:ALTER|ANALYZE|COMMENT|CREATE|DROP|GRANT|REINDEX|RESET|REVOKE|SET|VACUUM)\b", re.IGNORECASE
)
_IDENTITY = """
    select oid::text || '@' || extract(epoch from pg_postmaster_start_time())::text
    from pg_database where datname = current_database()
"""


def answer(parameters):
    """Which database this is, the pending migrations in their order, and what other databases there are."""
    alias = parameters["database"]
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(_IDENTITY)
        identity = cursor.fetchone()[0]
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return {
        "identity": identity,
        "others": [
            {**other(name), "beside": server(name) == server(alias)}
            for name in sorted(settings.DATABASES)
            if name != alias and not is_none(name)
        ],
        "migrations": [describe(migration) for migration, backwards in plan if not backwards],
    }


def is_none(alias):
    """Whether the entry stands for no database at all: Django's own engine for that can neither read nor write."""
    return connections[alias].settings_dict["ENGINE"] == "django.db.backends.dummy"


def server(alias):
    """On which server a database is, as far as the settings say."""
    given = settings.DATABASES[alias]
    service = (given.get("OPTIONS") or {}).get("service")
    return [str(given.get(name) or "") for name in ("HOST", "PORT")] + [str(service or "")]


def other(alias):
    """Another database: where it is (a digest, an address may be a secret), which one, and whether it can be written.

    What does not answer, or is no PostgreSQL, has no identity, and counts as one that can be written.
    """
    given = settings.DATABASES[alias]
    place = "|".join(str(given.get(name) or "") for name in ("ENGINE", "HOST", "PORT", "NAME"))
    place += "|" + str((given.get("OPTIONS") or {}).get("service") or "")
    found = {"alias": alias, "place": hashlib.sha256(place.encode()).hexdigest(), "identity": None, "writable": True}
    found["vendor"] = connections[alias].vendor
    try:
        if found["vendor"] == "postgresql":
            with connections[alias].cursor() as cursor:
                cursor.execute(_IDENTITY)
                found["identity"] = cursor.fetchone()[0]
                cursor.execute("show transaction_read_only")
                found["writable"] = cursor.fetchone()[0] != "on"
    except Exception:  # noqa: S110 - nothing is known of it then
        pass
    return found


def describe(migration):
    """One migration; `sha256` is None where it has no file."""
    operations = list(flat(migration.operations))
    return {
        "label": migration.app_label + "." + migration.name,
        "sha256": content(migration),
        "atomic": bool(migration.atomic),
        "reversible": all(bool(operation.reversible) for operation in operations),
        "replaces": [app + "." + name for app, name in migration.replaces],
        "opaque": sorted({type(operation).__name__ for operation in operations if is_opaque(operation)}),
        "writes": any(writes(operation) for operation in operations),
    }


def content(migration):
    """SHA-256 of the file that the migration stands in."""
    path = getattr(sys.modules.get(type(migration).__module__), "__file__", None)
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None


def flat(operations):
    """Operations with those inside SeparateDatabaseAndState that touch the database."""
    for operation in operations:
        inner = getattr(operation, "database_operations", None)
        if inner is None:
            yield operation
        else:
            yield from flat(inner)


def is_opaque(operation):
    """Whether it may change rows in a way that the models' states do not say."""
    return any(kind.__name__ in ("RunPython", "RunSQL") for kind in type(operation).__mro__)


def writes(operation):
    """Whether it may change rows: code, or SQL of which a statement does more than to define something."""
    if not is_opaque(operation):
        return False
    given = getattr(operation, "sql", None)
    if given is None:
        return True
    texts = [
        one[0] if isinstance(one, (list, tuple)) else one for one in ([given] if isinstance(given, str) else given)
    ]
    statements = (one for text in texts for one in _COMMENTS.sub(" ", str(text)).split(";"))
    return any(one.strip() and not _DEFINES.match(one) for one in statements)
