"""Fills the tables of any Django project with generated rows, in the project's own Python: `python fill_models.py N`.

Values are made from the fields' kinds; a row that the project's own rules refuse is left out. What each model got is
printed as JSON.
"""

import datetime
import decimal
import json
import sys
import uuid

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402

KINDS = (
    (models.BooleanField, lambda field, n: n % 2 == 0),
    (models.DateTimeField, lambda field, n: datetime.datetime(2026, 1, 1 + n % 28, tzinfo=datetime.UTC)),
    (models.DateField, lambda field, n: datetime.date(2026, 1, 1 + n % 28)),
    (models.TimeField, lambda field, n: datetime.time(n % 24)),
    (models.DurationField, lambda field, n: datetime.timedelta(minutes=n)),
    (models.DecimalField, lambda field, n: decimal.Decimal(n)),
    (models.FloatField, lambda field, n: n / 3),
    (models.IntegerField, lambda field, n: n),
    (models.UUIDField, lambda field, n: uuid.uuid4()),
    (models.JSONField, lambda field, n: {"n": n}),
    (models.BinaryField, lambda field, n: bytes([n % 256])),
    (models.EmailField, lambda field, n: f"person{n}@example.org"),
    (models.URLField, lambda field, n: f"https://example.org/{n}"),
    (models.CharField, lambda field, n: f"{field.name}-{n} é"[: field.max_length]),
    (models.TextField, lambda field, n: f"{field.name} {n} " * 20),
    (models.FileField, lambda field, n: f"files/{n}.txt"),
    (models.GenericIPAddressField, lambda field, n: f"10.0.0.{n % 250}"),
)


def value(field, n):
    """A value of the field; the first choice where there are some."""
    if field.flatchoices:
        return field.flatchoices[n % len(field.flatchoices)][0]
    if isinstance(field, models.SlugField):
        return f"slug-{n}"
    made = next((make for kind, make in KINDS if isinstance(field, kind)), None)
    return None if made is None else made(field, n)


def row(model, n):
    """One row's values: foreign keys lead to any row that is there."""
    values = {}
    for field in model._meta.concrete_fields:
        if field.auto_created or (field.primary_key and isinstance(field, models.AutoField)):
            continue
        if field.remote_field is not None:
            there = field.remote_field.model._default_manager.order_by("pk")
            keys = list(there.values_list(field.target_field.attname, flat=True)[:50])
            if keys:
                values[field.attname] = keys[n % len(keys)]
            elif not field.null:
                return None
        else:
            made = value(field, n)
            if made is not None:
                values[field.attname] = made
    return values


def fill(count):
    """Twice over all models, so that those that come before what they refer to get rows too."""
    found = {}
    for model in [*apps.get_models(), *apps.get_models()]:
        if model._meta.proxy or not model._meta.managed or model._meta.app_label in ("contenttypes", "migrations"):
            continue
        for n in range(1, count + 1) if found.get(model._meta.label) is None else ():
            try:
                with transaction.atomic():
                    values = row(model, n)
                    if values is not None:
                        # Not through `save`: signal handlers would send mails and ask search engines.
                        model._default_manager.bulk_create([model(**values)])
                        found[model._meta.label] = found.get(model._meta.label, 0) + 1
                    with connection.cursor() as cursor:
                        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            except Exception as error:
                print(model._meta.label, type(error).__name__, str(error)[:150], file=sys.stderr)
                if found.get(model._meta.label) is None:
                    break
    return found


print(json.dumps(fill(int(sys.argv[1]))))
