# mypy: ignore-errors
"""Whether a release works on a migrated database: its own checks, what is still pending, one page. Django 4.2 to 6.

The page is asked inside this process, by Django's test client: no server is started, and nothing listens.
"""

import time

from django.conf import settings
from django.core import checks
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.test import Client


def answer(parameters):
    """Errors of the system check, migrations still pending, and how the page answered. After `standins` only."""
    if not getattr(settings, "SAFEPOINT_STAND_INS", False):
        raise RuntimeError("the caches could not be led away from the live ones; no page was asked")
    errors = [str(one) for one in checks.run_checks() if one.is_serious() and not one.is_silenced()]
    began = time.monotonic()
    executor = MigrationExecutor(connections[parameters["database"]])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return {
        "check_seconds": round(time.monotonic() - began, 3),
        "errors": errors,
        "pending": [migration.app_label + "." + migration.name for migration, backwards in plan if not backwards],
        **page(parameters["path"], parameters["host"]),
    }


def page(path, host):
    """The status of a page, or what was raised where it could not be asked."""
    try:
        client = Client(raise_request_exception=False, SERVER_NAME=host.split(":")[0], HTTP_HOST=host)
        response = client.get(path, HTTP_X_FORWARDED_PROTO="https")
    except Exception as error:
        return {"status": None, "fault": type(error).__name__ + ": " + str(error)}
    raised = getattr(response, "exc_info", None)
    return {"status": response.status_code, "fault": raised and raised[0].__name__ + ": " + str(raised[1])}
