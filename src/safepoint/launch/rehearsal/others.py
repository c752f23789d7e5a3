"""A project with several databases: a rehearsal restores one of them, and none of the others may be written to."""

from __future__ import annotations

from safepoint.config import PlanFile
from safepoint.django.managepy import Manage
from safepoint.django.pending import OtherDatabase, Pending, read_pending
from safepoint.django.pointing import only_pointing
from safepoint.errors import CommandFailed, Refused


def looked_after(plan: PlanFile, manage: Manage, pending: Pending) -> tuple[str, ...]:
    """What a reader should know of the other databases: which are the copy itself, only read, or led elsewhere.

    `[rehearsal] env` may lead one to a copy that somebody made. Whether it does is seen by asking both releases where
    it is without these variables; nothing is written.

    Raises:
        Refused: a migration could write to one that the live site uses.
    """
    exposed = {one.alias for one in pending.exposed}
    live = _live(plan, manage) if exposed and plan.rehearsal.env else None
    left = [one.alias for one in pending.others if one.alias in exposed and not led_elsewhere(one, live)]
    if left:
        raise Refused(
            f"The application has other databases: {', '.join(left)}. They are not pointed elsewhere: "
            "a migration that writes to them would write to the real ones.",
            subject="DATABASES",
            expected="each of them the copy itself by another alias, only readable, or led to a copy of its own",
            remedy="Let the settings read their addresses from variables, and name copies of them in [rehearsal] env, "
            'such as { REPORTS_URL = "postgresql://.../reports_rehearsal" }: an empty database in which the release\'s '
            "own `migrate --database ALIAS` was run will do where no migration reads it. Nothing was migrated.",
        )
    return tuple(_told(one, pending) for one in pending.others)


def _told(one: OtherDatabase, pending: Pending) -> str:
    if one.missing:
        return f"database {one.alias!r} is led along to the copy's server, and is not there: what needs it, fails there"
    if one.identity == pending.identity:
        return f"database {one.alias!r} is the copy by another alias"
    if not one.writable:
        return f"database {one.alias!r} can only be read, and is the live one"
    return f"database {one.alias!r} is led elsewhere by [rehearsal] env: what migrations write there is not looked at"


def _live(plan: PlanFile, manage: Manage) -> tuple[OtherDatabase, ...] | None:
    """The other databases of both releases without the rehearsal's variables; None where they cannot be asked."""
    found: list[OtherDatabase] = []
    try:
        for release in (plan.releases.new, plan.releases.old):
            there = Manage(manage.host, release, only_pointing(plan.application, manage.env), manage.secrets)
            found += read_pending(there).others
    except CommandFailed:
        return None
    return tuple(found)


def led_elsewhere(one: OtherDatabase, live: tuple[OtherDatabase, ...] | None) -> bool:
    """Not at the address of one that is live; and where servers can say which database they are, not the same one by
    another address: of one that does not answer nobody knows. Pure."""
    if live is None or any(one.place == other.place for other in live):
        return False
    alike = [other for other in live if other.vendor == one.vendor]
    if one.vendor != "postgresql":
        return True
    return one.identity is not None and all(other.identity not in (None, one.identity) for other in alike)
