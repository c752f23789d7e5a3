# mypy: ignore-errors
"""Which of some values the default database's address is made of. Runs on Django 4.2 to 6, Python 3.8 or newer."""

import os

from django.db import connections

_NAMES = {"host": "host", "port": "port", "name": "dbname", "user": "user", "password": "password"}
# What libpq takes from the environment where it is given nothing. Of a service it takes the rest of the address.
_LIBPQ = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}


def answer(parameters):
    """By part the variable whose value is there, of `values`: variable -> value. Nothing is connected to, and of
    values that are none of these nothing is said."""
    given = connections["default"].get_connection_params()
    found = {part: given.get(name, given.get("database") if part == "name" else None) for part, name in _NAMES.items()}
    if not given.get("service") and not os.environ.get("PGSERVICE"):
        for part, name in _LIBPQ.items():
            found[part] = found[part] or os.environ.get(name)
    variables = {str(value): name for name, value in parameters["values"].items()}
    return {part: variables[str(value)] for part, value in found.items() if str(value) in variables}
