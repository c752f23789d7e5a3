"""The table `[scratch]` of the plan file: a server on which copies of production data may be made and thrown away."""

from __future__ import annotations

from safepoint.config.section import ServerLogin


class ScratchServer(ServerLogin):
    """A PostgreSQL server for proofs and rehearsals, in place of one that Safepoint starts itself.

    Only databases with random names are made there, and missing roles, without a login; all of it is marked, and gone
    afterwards. `user` must be a superuser there, and the server must not be that of the database.
    """
