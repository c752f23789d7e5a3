"""Sites with a schema for each tenant (django-tenants, django-tenant-schemas): what a name means there. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from safepoint.wayback.mapping.catalogue import Catalogue, Table, meant

TENANT: Final = "schema_name"
"""The column that names a tenant's schema."""
_RECORD: Final = "django_migrations"


def homes(catalogue: Catalogue) -> tuple[str, ...]:
    """The schemas with Django's own record in them, where there are several."""
    found = tuple(name.partition(".")[0] for name in catalogue.by_relation.get(_RECORD, ()))
    return found if len(found) > 1 else ()


def named(catalogue: Catalogue, name: str) -> tuple[Table, ...]:
    """The tables that a person means by a name: one without its schema is that of each tenant."""
    return tuple(catalogue.tables[one] for one in all_meant(name, catalogue.tables))


def all_meant(name: str, tables: Collection[str]) -> tuple[str, ...]:
    """As `named`, of tables as `schema.table`; the one that `catalogue.meant` finds is the first."""
    found = meant(name, tables)
    schemas = sorted(schema for schema, _, relation in (one.partition(".") for one in tables) if relation == _RECORD)
    home, _, relation = (found or "").partition(".")
    if found is None or name.replace('"', "") == found or len(schemas) < 2 or home not in schemas:
        return () if found is None else (found,)
    others = (f"{schema}.{relation}" for schema in schemas if schema != home)
    return (found, *(one for one in others if one in tables))


def lists_tenants(catalogue: Catalogue, table: Table) -> bool:
    """Whether each row of the table is a tenant, with the schema that it names."""
    return bool(homes(catalogue)) and any(one.plain and one.columns == (TENANT,) for one in table.uniques)
