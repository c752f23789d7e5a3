# mypy: ignore-errors
"""Which migrations stand for which others, once squashed. Asks no database. Django 4.2 to 6."""

from django.db.migrations.loader import MigrationLoader


def answer(_parameters):
    """By each squashed migration those that it replaces; all as `app.0002_name`."""
    squashed = MigrationLoader(None, ignore_no_migrations=True).replacements
    return {".".join(key): [".".join(one) for one in migration.replaces] for key, migration in squashed.items()}
