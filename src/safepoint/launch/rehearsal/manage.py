"""The new release, pointed at databases of the scratch server; and processes of it, which load while others wait."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from safepoint.config import PlanFile
from safepoint.django import pointing
from safepoint.django.address import NOT_INSISTING, how_to_lead, unled
from safepoint.django.inspector import IDENTITY, inspect
from safepoint.django.intent import Intent, read_intent
from safepoint.django.managepy import Manage
from safepoint.django.standby import Standby
from safepoint.errors import CommandFailed, Refused, SafepointError
from safepoint.hosts import open_host
from safepoint.launch import frozen
from safepoint.launch.rehearsal.others import looked_after
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch_databases import base
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.fence.login import migration_login
from safepoint.wayback.names import migration_role

_MAINTENANCE: Final = "postgres"
_PATIENCE: Final = 60.0
_LOOK_SECONDS: Final = 0.2
LOGIN: Final = "rehearsal"


@dataclass(frozen=True)
class Pointed:
    """`folder` is the rehearsal's own; `port` that of the scratch server, as the application reaches it. Logins have
    one password, that a process can be told before they are there."""

    plan: PlanFile
    folder: Path
    port: int
    _password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def manage(self, database: Target, name: str = LOGIN) -> Manage:
        """`manage.py` at a database, with the kind of login that the launch migrates with; `name` is the login's.

        `application.database_address` is not used: it leads to the live server.
        """
        settings = self.plan.database
        login = migration_login(
            database,
            base(database.dbname) or name,
            settings.application_roles[0],
            maintenance=_MAINTENANCE,
            lock_timeout=settings.lock_timeout.total_seconds(),
            password=self._password,
        )
        return self._at(login)

    def loading(self, database: Target, name: str = LOGIN) -> Standby:
        """A process that loads the release for a database which need not be there yet. It may well fail to."""
        role = migration_role(base(database.dbname) or name)
        return Standby(self._at(database.login(role, self._password)), lasting=True)

    def code(self, database: Target, cancelled: Cancelled) -> bytes | None:
        """The release's code, file by file; None where it does not say what of its folder is none.

        Args:
            database: need not be there.
        """
        manage = self._at(database.login(migration_role(LOGIN), self._password))
        try:
            left_out = frozen.no_code(self.plan, self.plan.releases.new, inspect(manage, cancelled=cancelled))
            return frozen.listed(manage, left_out, cancelled)
        except CommandFailed:  # why it does not start, the rehearsal itself will say
            return None

    def _at(self, login: Target) -> Manage:
        application = self.plan.application
        host = open_host(application.host, self.plan.host(application.host), self.plan.folder)
        options = "-c default_transaction_read_only=off"
        env, secret = pointing.to_copy(application, replace(login, port=self.port))
        return Manage(
            host,
            self.plan.releases.new,
            env={**self.plan.rehearsal.variables(self.folder), "PGOPTIONS": options, **self._settings, **env},
            secrets=secret,
        )

    @cached_property
    def _settings(self) -> dict[str, str]:
        """Where its variables do not lead the application to the copy: what makes it use settings that do."""
        application = self.plan.application
        if not application.fixed:
            return {}
        host = open_host(application.host, self.plan.host(application.host), self.plan.folder)
        given = self.plan.rehearsal.variables(self.folder)
        return pointing.settings_over(Manage(host, self.plan.releases.new), self.folder / "settings", given)


def intended(
    plan: PlanFile, copy: Target, manage: Manage, standby: Standby | None, cancelled: Cancelled
) -> tuple[Intent, tuple[str, ...]]:
    """What it means to do, and what is to be said of other databases; and that the application is where it was pointed,
    before it may write anything.

    Raises:
        Refused: it is not there, or has other databases that it could write to.
        CommandFailed: it does not answer.
    """
    try:
        intent = read_intent(manage, cancelled=cancelled, standby=standby)
    except CommandFailed as error:
        raise _unreachable(plan, error) from error
    with connect(copy) as connection:
        row = connection.execute(IDENTITY.encode()).fetchone()
    pending = intent.pending
    if row is None or pending.identity != row[0]:
        raise Refused(
            "The application does not go to the scratch server: it answered from another database.",
            subject=f"[application] is led by {', '.join(plan.application.led_by)}"
            if not plan.application.fixed
            else unled(plan.application),
            expected=f"database {row[0] if row else '?'} (oid@start of the server)",
            found=pending.identity,
            remedy="Do the settings take the address of the default database from there? `safepoint doctor` tries it. "
            "Nothing was migrated."
            if not plan.application.fixed
            else "Settings were made for it, and it did not use them: does `manage` set DJANGO_SETTINGS_MODULE "
            f"itself? {how_to_lead(plan.application)}. Nothing was migrated.",
        )
    return intent, looked_after(plan, manage, pending)


def _unreachable(plan: PlanFile, error: CommandFailed) -> CommandFailed:
    """An application elsewhere reaches the scratch server by another way than we do; and some insist on encryption."""
    if "does not support SSL" in error.message or "certificate" in error.message:
        remedy = f"{NOT_INSISTING} Nothing was migrated."
        return CommandFailed(error.message, subject=error.subject, found=error.found, remedy=remedy)
    host = plan.application.host
    if plan.host(host).kind == "here":
        if plan.application.fixed or "OperationalError" not in error.message:
            return error
        remedy = (
            f"Do the settings take all of the database's address from {', '.join(plan.application.led_by)}? "
            "`safepoint doctor` tries it. Nothing was migrated."
        )
        return CommandFailed(error.message, subject=error.subject, found=error.found, remedy=remedy)
    return CommandFailed(
        f"The application on host {host!r} does not answer from the scratch server: {error.message}",
        subject=f"application.host = {host!r}",
        expected="an application that reaches the scratch server",
        remedy="See that its manage.py runs there by itself. Nothing was migrated.",
    )


@dataclass(frozen=True)
class Loading:
    """A process on its way. Whoever needs it and finds none, as it could not be loaded, starts another one."""

    database: Target
    _coming: Future[Standby]

    def ready(self, database: Target, cancelled: Cancelled = never) -> Standby | None:
        """The process, once it waits for work; None where it does not, is for another database, or was cancelled."""
        same = (database.host, database.port, database.dbname) == (
            self.database.host,
            self.database.port,
            self.database.dbname,
        )
        with suppress(SafepointError):
            found = self._coming.result() if same else None
            deadline = time.monotonic() + _PATIENCE
            while found is not None and found.alive and time.monotonic() < deadline and not cancelled():
                if found.ready(_LOOK_SECONDS):
                    return found
        return None


@contextmanager
def loading(pointed: Pointed, database: Target, name: str = LOGIN) -> Iterator[Loading]:
    """Load the release for a database meanwhile; the process ends on leaving."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal-loading") as pool:
        coming = pool.submit(pointed.loading, database, name)
        try:
            yield Loading(database, coming)
        finally:
            with suppress(SafepointError):
                coming.result().dismiss()
