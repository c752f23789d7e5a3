"""Sites with a schema for each tenant (django-tenants, django-tenant-schemas): what a name means there. Pure."""

from __future__ import annotations

from typing import Final

from safepoint.wayback.catalogue import Catalogue, Table

TENANT: Final = "schema_name"
"""The column that names a tenant's schema."""


def homes(catalogue: Catalogue) -> tuple[str, ...]:
    """The schemas with Django's own record in them, where there are several."""
    found = tuple(name.partition(".")[0] for name in catalogue.by_relation.get("django_migrations", ()))
    return found if len(found) > 1 else ()


def named(catalogue: Catalogue, name: str) -> tuple[Table, ...]:
    """The tables that a person means by a name: one without its schema is that of each tenant."""
    found, schemas = catalogue.find(name), homes(catalogue)
    if found is None or name.replace('"', "") == found.name or found.schema not in schemas:
        return () if found is None else (found,)
    places = (f"{home}.{found.relation}" for home in schemas)
    return tuple(catalogue.tables[one] for one in places if one in catalogue.tables)


def lists_tenants(catalogue: Catalogue, table: Table) -> bool:
    """Whether each row of the table is a tenant, with the schema that it names."""
    return bool(homes(catalogue)) and any(one.plain and one.columns == (TENANT,) for one in table.uniques)
