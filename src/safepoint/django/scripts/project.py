# mypy: ignore-errors
"""What a Django project is: asked of the project itself, read-only. Runs on Django 4.2 to 6, Python 3.8 or newer."""

import os
import re
import sys
from pathlib import Path

import django
from django.conf import settings

# A call or an index with a name in capitals as its first word: os.environ["X"], env.db("X"), a project's own
# required("X"). Some are no variables; what matters of them is tried later.
_READS = re.compile(
    r"""\w\s*[\[(]\s*(?:var\s*=\s*)?["']"""
    r"""([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_?(?:URL|DSN|URI)|[A-Z][A-Z0-9]*_[A-Z0-9_]+|(?:DB|PG|POSTGRES)[A-Z]+)["']"""
)
_IDENTITY = """
    select oid::text || '@' || extract(epoch from pg_postmaster_start_time())::text
    from pg_database where datname = current_database()
"""
_SESSION = """
    select host(inet_server_addr()), inet_server_port(), pg_backend_pid(), current_setting('lock_timeout')
"""
# Django asks for the primary key by model; the table may differ (managed = False): ask PostgreSQL.
_WITHOUT_KEY = """
    select c.relname from pg_class c
    where c.relkind in ('r', 'p') and pg_table_is_visible(c.oid) and c.relname = any(%s)
      and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'p')
    order by 1
"""


def answer(parameters):
    """All facts as JSON; what needs the database is None with `database_error` saying why, where it cannot be had."""
    facts = {
        "django": django.get_version(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "settings": settings_module(),
        "debug": bool(settings.DEBUG),
        "allowed_hosts": list(settings.ALLOWED_HOSTS),
        "databases": databases(),
        "routers": [one if isinstance(one, str) else type(one).__name__ for one in settings.DATABASE_ROUTERS],
        "caches": {alias: cache.get("BACKEND", "") for alias, cache in settings.CACHES.items()},
        "session_engine": settings.SESSION_ENGINE,
        "login_url": login_url(),
        "commands": commands(),
        "installed_apps": list(settings.INSTALLED_APPS),
        "error_logs": error_logs(),
        "data": data(),
        "environment": environment(),
        "pending": None,
        "applied": None,
        "unmade": None,
        "without_key": None,
        "identity": None,
        "session": None,
        "database_error": None,
        "database_answers": True,
    }
    facts.update(user_model())
    try:
        facts.update(migrations(parameters["database"]))
        complete(facts["databases"][parameters["database"]], parameters["database"])
    except Exception as error:
        facts["database_error"] = type(error).__name__ + ": " + str(error)
        facts["database_answers"] = answers(parameters["database"], error)
    return facts


def answers(alias, error):
    """Whether the database answers all the same: a migration's file that cannot be loaded is no fault of its."""
    from django.db import Error, connections

    try:
        if not isinstance(error, Error):
            connections[alias].ensure_connection()
    except Exception:
        return False
    return not isinstance(error, Error)


def databases():
    """Where each database is; never its password."""
    from django.db import connections

    found = {}
    for alias, values in settings.DATABASES.items():
        options = values.get("OPTIONS") or {}
        found[alias] = {
            "engine": str(values.get("ENGINE", "")),
            "vendor": vendor(connections, alias),
            "name": str(values.get("NAME") or ""),
            "host": str(values.get("HOST") or ""),
            "port": str(values.get("PORT") or ""),
            "user": str(values.get("USER") or ""),
            "service": str(options.get("service") or ""),
            # Options of its own would keep PGOPTIONS (lock_timeout!) from reaching the server.
            "options": str(options.get("options") or ""),
            "sslmode": str(options.get("sslmode") or os.environ.get("PGSSLMODE") or ""),
        }
    return found


def vendor(connections, alias):
    """Whose database the engine talks to; empty where it cannot be loaded."""
    try:
        return str(connections[alias].vendor)
    except Exception:
        return ""


def complete(found, alias):
    """What the settings leave to libpq (a service, its own variables) as the connection has it."""
    from django.db import connections

    if connections[alias].vendor != "postgresql":
        return
    with connections[alias].cursor() as cursor:
        cursor.execute("select current_database(), session_user")
        name, user = cursor.fetchone()
        info = getattr(cursor.connection, "info", None)
    known = {"name": name, "user": user, "host": getattr(info, "host", ""), "port": getattr(info, "port", "")}
    found.update({part: str(value or "") for part, value in known.items() if not found[part]})


def user_model():
    """AUTH_USER_MODEL, its table and what names a user there; empty where the project has no users."""
    try:
        from django.contrib.auth import get_user_model

        model = get_user_model()
    except Exception:
        return {"user_model": None, "user_table": None, "user_columns": None}
    return {"user_model": model._meta.label, "user_table": model._meta.db_table, "user_columns": user_columns(model)}


def user_columns(model):
    """By which columns of its table a user is named and written to; those of a parent model's table are left out."""
    own = {field.name: field.column for field in model._meta.local_concrete_fields}
    names = [own[name] for name in ("first_name", "last_name") if name in own]
    whole = [own[name] for name in ("full_name", "display_name", "name", "short_name") if name in own]
    return {
        "label": own.get(model.USERNAME_FIELD),
        "email": own.get(str(getattr(model, "EMAIL_FIELD", "email"))),
        "names": names if len(names) == 2 else (whole[:1] or names),
    }


def login_url():
    """LOGIN_URL as a path; a view's name is resolved, and kept as it is where it cannot be."""
    from django.shortcuts import resolve_url

    try:
        return str(resolve_url(settings.LOGIN_URL))
    except Exception:
        return str(settings.LOGIN_URL)


def commands():
    """Names of all management commands."""
    from django.core.management import get_commands

    return sorted(get_commands())


def error_logs():
    """The files that errors of pages come to, then those of the project's own; all of LOGGING's where no logger leads
    to one. A file of something else's (reports of a security policy) would be watched for nothing."""
    files, loggers = log_files(), {"": (settings.LOGGING or {}).get("root") or {}}
    loggers.update((settings.LOGGING or {}).get("loggers") or {})
    reached = []
    for name in ("django.request", "django", ""):
        reached += loggers.get(name, {}).get("handlers") or []
        if name and loggers.get(name, {}).get("propagate") is False:
            break
    reached += loggers[""].get("handlers") or []
    return list(dict.fromkeys(files[one] for one in reached if one in files)) or sorted(set(files.values()))


def log_files():
    """The file of each of LOGGING's handlers that has one."""
    handlers = (settings.LOGGING or {}).get("handlers") or {}
    return {name: str(h["filename"]) for name, h in handlers.items() if isinstance(h, dict) and h.get("filename")}


def data():
    """Where the settings have put what is no code: uploads, caches, sessions and logs in files."""
    backends = [cache for cache in settings.CACHES.values() if "filebased" in str(cache.get("BACKEND", ""))]
    found = [settings.MEDIA_ROOT, settings.SESSION_FILE_PATH, *(cache.get("LOCATION") for cache in backends)]
    real = [str(Path(str(one)).resolve()) for one in (*found, *log_files().values()) if one]
    # A folder of the whole project (MEDIA_ROOT = BASE_DIR) would leave out all of it.
    here = str(Path.cwd().resolve())
    return sorted({one for one in real if one != here and not here.startswith(one.rstrip("/") + "/")})


def settings_module():
    """The name that Django was given; what settings say of themselves may be another (with Dynaconf a file's path).
    Empty where the program configures Django itself."""
    return os.environ.get("DJANGO_SETTINGS_MODULE", "") if settings.SETTINGS_MODULE else ""


def settings_sources():
    """The settings' own files; where there are none, the program's."""
    name = settings_module()
    package = name.rpartition(".")[0] + "."
    modules = [one for one in list(sys.modules) if one == name or ("settings" in one and one.startswith(package))]
    files = [getattr(sys.modules[one], "__file__", None) for one in modules if name] + [settings.SETTINGS_MODULE]
    if not name:
        files.append(getattr(sys.modules.get("__main__"), "__file__", None))
    paths = {Path(one) for one in files if one}
    return sorted(path for path in paths if path.suffix == ".py" and path.is_file())


def environment():
    """Names of environment variables that the settings' own source reads, and libpq for them (never values)."""
    names = set()
    for path in settings_sources():
        text = path.read_text(encoding="utf-8", errors="replace")
        names.update(_READS.findall(text))
        # dj-database-url and django-environ read this one unless told otherwise.
        if re.search(r"dj_database_url\.config\(\s*(?:default|\)|conn)|env\.db(?:_url)?\(\s*\)", text):
            names.add("DATABASE_URL")
    return sorted(names.union(*map(libpq_names, settings.DATABASES.values())))


# https://www.postgresql.org/docs/current/libpq-envars.html
_LIBPQ = {"HOST": ("PGHOST",), "PORT": ("PGPORT",), "USER": ("PGUSER",), "PASSWORD": ("PGPASSWORD", "PGPASSFILE")}


def libpq_names(database):
    """Variables that are set, and from which libpq takes what the settings leave to it."""
    if "postg" not in str(database.get("ENGINE", "")):
        return set()
    names = [name for part, own in _LIBPQ.items() if not database.get(part) for name in own]
    names += ["PGSERVICE", "PGSERVICEFILE"] if not database.get("HOST") else []
    return {name for name in names if name in os.environ}


def migrations(alias):
    """Pending migrations, how many are applied, apps whose models have changes that no migration has made."""
    from django.apps import apps
    from django.db import connections
    from django.db.migrations.autodetector import MigrationAutodetector
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.state import ProjectState

    connection = connections[alias]
    executor = MigrationExecutor(connection)
    graph = executor.loader.graph
    plan = executor.migration_plan(graph.leaf_nodes())
    conflicts = executor.loader.detect_conflicts()
    unmade = []
    if not conflicts:
        # As `migrate` looks: whoever makes migrations is asked for the default of a new NOT NULL column, and may exit.
        projects_own("makemigrations")
        made = executor.loader.project_state()
        detector = MigrationAutodetector(made, ProjectState.from_apps(apps))
        changes = detector.changes(graph=graph).items()
        unmade = sorted(app for app, found in changes if any(alters(made, app, one) for one in found))
    return {
        "pending": [describe(migration) for migration, backwards in plan if not backwards],
        "applied": len(executor.loader.applied_migrations),
        "conflicts": sorted(conflicts),
        "inconsistent": inconsistent(executor.loader, connection),
        "unmade": unmade,
        "without_key": without_key(connection),
        "identity": identity(connection),
        "session": session(connection),
    }


def inconsistent(loader, connection):
    """Why `migrate` would refuse to begin: an applied migration comes after one that is not."""
    from django.db.migrations.exceptions import InconsistentMigrationHistory

    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        return str(error)
    return None


def projects_own(command):
    """Load a command as `manage.py` does: whole products change there what counts as a change of a field."""
    from django.core.management import get_commands, load_command_class

    try:
        app = get_commands()[command]
        if isinstance(app, str):
            load_command_class(app, command)
    except Exception:  # noqa: S110 - code of a project's own may raise anything: then Django's own look has to do
        pass


# What a field says to forms and people only (`Field.non_db_attrs`; older versions of Django have no name for it).
UNSEEN = {"blank", "choices", "editable", "error_messages", "help_text", "limit_choices_to", "on_delete"}
UNSEEN |= {"related_name", "related_query_name", "validators", "verbose_name"}


def alters(made, app, migration):
    """Whether an unmade migration would alter the database. Whole products make none for a label or a help text."""
    from django.db.migrations import operations as kinds

    def says(field):
        path, args, named = field.deconstruct()[1:]
        unseen = UNSEEN.union(getattr(field, "non_db_attrs", ())) - {"db_column"}
        return path, args, {name: value for name, value in named.items() if name not in unseen}

    def matters(operation):
        if isinstance(operation, (kinds.AlterModelOptions, kinds.AlterModelManagers)):
            return False
        if not isinstance(operation, kinds.AlterField):
            return True
        model = made.models.get((app, operation.model_name.lower()))
        before = model and model.fields.get(operation.name)
        return before is None or says(before) != says(operation.field)

    return any(matters(operation) for operation in migration.operations)


def describe(migration):
    """One migration in words."""
    operations = list(flat(migration.operations))
    names = [type(operation).__name__ for operation in operations]
    return {
        "app": migration.app_label,
        "name": migration.name,
        "atomic": bool(migration.atomic),
        "operations": names,
        "runs_python": any(isinstance_by_name(operation, "RunPython") for operation in operations),
        "runs_sql": any(isinstance_by_name(operation, "RunSQL") for operation in operations),
        "reversible": all(bool(operation.reversible) for operation in operations),
        "replaces": [app + "." + name for app, name in migration.replaces],
    }


def flat(operations):
    """Operations with those inside SeparateDatabaseAndState that touch the database."""
    for operation in operations:
        inner = getattr(operation, "database_operations", None)
        if inner is None:
            yield operation
        else:
            yield from flat(inner)


def isinstance_by_name(operation, name):
    """Whether the operation is of this class or of one made from it."""
    return any(kind.__name__ == name for kind in type(operation).__mro__)


def identity(connection):
    """Which database it is, whatever name or address leads to it."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute(_IDENTITY)
        return cursor.fetchone()[0]


def session(connection):
    """Which server answers, whether a pooler stands before it, and whether a setting of PGOPTIONS has come through."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute(_SESSION)
        address, port, pid, lock_timeout = cursor.fetchone()
        told = getattr(getattr(cursor.connection, "info", None), "backend_pid", pid)
    return {"host": address or "", "port": str(port or ""), "pooled": told != pid, "lock_timeout": lock_timeout}


def without_key(connection):
    """Tables of models that have no primary key in the database."""
    from django.apps import apps

    if connection.vendor != "postgresql":
        return []
    tables = sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)})
    with connection.cursor() as cursor:
        cursor.execute(_WITHOUT_KEY, [tables])
        return [row[0] for row in cursor.fetchall()]
