"""A conductor that lacks a variable by which the application finds its database could not open the site again."""

from __future__ import annotations

from pathlib import Path

import pytest
from loaded_django import python
from parted_site import BY_LIBPQ, BY_PREFIX, BY_SERVICE, parted_site
from plan_file import plan_file

from safepoint.config import PlanFile, Release, load
from safepoint.django.inspector import inspect
from safepoint.django.managepy import Manage
from safepoint.errors import Refused
from safepoint.hosts.here import Here
from safepoint.launch.surroundings import names_set, refuse_other
from safepoint.postgres.target import Target

PARTS = """
[application.variables]
host = "DB_HOST"
user = "DB_USER"
password = "DB_PASSWORD"
"""


def recorded(site: Path, plan: PlanFile) -> list[str]:
    release = Release(
        version="1", manage=(python(), "src/manage.py"), start=("true",), stop=("true",), upstream="127.0.0.1:1"
    )
    return names_set(plan, inspect(Manage(Here("here", site), release)).environment)


@pytest.mark.parametrize(
    ("address", "more", "name"),
    [
        (BY_LIBPQ, "", "PGPASSWORD"),
        (BY_SERVICE, "", "PGSERVICEFILE"),
        (BY_PREFIX, PARTS, "DB_PASSWORD"),
    ],
)
def test_a_conductor_without_a_variable_that_no_source_names_is_refused(
    tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch, address: str, more: str, name: str
) -> None:
    site = parted_site(tmp_path / "shop", database, monkeypatch, address)
    made = plan_file(tmp_path, database)
    made.path.write_text(made.path.read_text() + more)
    names = recorded(site, load(made.path))
    assert name in names
    refuse_other({"names": names}, "shop-2.0")
    monkeypatch.delenv(name)
    with pytest.raises(Refused, match=f"{name}: set where this launch began"):
        refuse_other({"names": names}, "shop-2.0")
