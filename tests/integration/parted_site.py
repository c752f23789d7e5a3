"""The project of the tests with settings that read its database's address in parts, in one of several ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_site import write_site

from safepoint.postgres.target import Target

BY_OS = """{
    "HOST": os.environ["DB_HOST"], "PORT": os.environ.get("DB_PORT", ""), "NAME": os.environ["DB_NAME"],
    "USER": os.environ["DB_USER"], "PASSWORD": os.environ["DB_PASSWORD"],
}"""
BY_LIBPQ = """{"NAME": os.environ["POSTGRES_DB"]}"""
BY_PREFIX = """{
    name: os.environ[f"{prefix}_{name}"] for prefix in ["DB"] for name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")
}"""
BY_SERVICE = """{"OPTIONS": {"service": "shop"}}"""
WITHOUT_PORT = BY_OS.replace('os.environ.get("DB_PORT", "")', "'{port}'")


def parted_site(folder: Path, database: Target, monkeypatch: pytest.MonkeyPatch, address: str = BY_OS) -> Path:
    """The project, and all variables that it may read. DATABASE_URL, which other tests need, leads nowhere here."""
    write_site(folder)
    settings = folder / "src/shop/settings.py"
    address = address.replace("{port}", str(database.port))
    words = f'\nDATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", **{address}}}}}\n'
    text = settings.read_text().replace('os.environ["DATABASE_URL"]', "'postgresql://nobody@nowhere/x'")
    settings.write_text(text + words)
    values = {"HOST": database.host, "PORT": str(database.port), "USER": database.user}
    for part, value in {**values, "PASSWORD": database.password or ""}.items():
        monkeypatch.setenv(f"DB_{part}", value)
        monkeypatch.setenv(f"PG{part}", value)
    monkeypatch.setenv("DB_NAME", database.dbname)
    service = {"host": database.host, "port": database.port, "dbname": database.dbname, "user": database.user}
    lines = "".join(f"{word}={value}\n" for word, value in {**service, "password": database.password}.items())
    (folder / "service.conf").write_text(f"[shop]\n{lines}")
    monkeypatch.setenv("PGSERVICEFILE", str(folder / "service.conf"))
    monkeypatch.setenv("POSTGRES_DB", database.dbname)
    return folder
