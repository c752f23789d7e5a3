"""What hinders a dump, or a fingerprint, at its source, and what to do about it. Pure."""

from __future__ import annotations

GRANT = "Let database.user read all tables and sequences: GRANT pg_read_all_data TO it; then try again."
"""What to do where something of the database may not be read."""


def ended(said: str) -> str | None:
    """What to do where the session, or the one that held the snapshot, was ended; None where it was not. Pure."""
    signs = ("terminating connection", "connection unexpectedly", 'snapshot "')
    if any(sign in said for sign in signs):
        return "Was the database dropped, or the server stopped? Look into its log, then take the snapshot again."
    return None


def special(said: str) -> str | None:
    """What to do about what PostgreSQL says of a dump and of a fingerprint alike; None where it is nothing such. Pure.

    It goes before what a right that is missing, or a session that was ended, asks for in general.
    """
    remedies = {
        "conflict with recovery": "The standby was made to follow its primary in the middle of it: set "
        "hot_standby_feedback = on there (or raise max_standby_streaming_delay), then take the snapshot again.",
        "during recovery": "A standby has no unlogged tables, and no sequences of theirs: take the snapshot from the "
        "primary.",
        "row-level security": "Policies hide rows from this login, and a snapshot must have them all: ALTER ROLE ... "
        "BYPASSRLS, or let a superuser take the snapshots.",
        "invalid byte sequence for encoding": "A name, a comment or a definition in this database has bytes that are "
        "no UTF-8, as SQL_ASCII takes any (rows may have them): write it anew, then take the snapshot again.",
        **dict.fromkeys(
            ("cache lookup failed", "could not open relation with OID"),
            "Something was dropped or changed (a migration?) just when it began: take it again, when nobody does that.",
        ),
        "permission denied for large object": "pg_read_all_data does not cover large objects: GRANT SELECT ON LARGE "
        "OBJECT ... for each of them, or let their owner, or a superuser, take the snapshots.",
    }
    return next((remedy for sign, remedy in remedies.items() if sign in said), None)
