"""Who gives a command: as it stands in the ledger, in the conductor's lock and in a manifest."""

from __future__ import annotations

import getpass
import os
import pwd
import socket


def user() -> str:
    """The user's name; in a container whose user has none (`docker run -u 1000`), the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the system's list of users, and no variable says it
        return f"uid {os.getuid()}"


def user_of(number: int) -> str:
    """The name of the user of that number; the number where the system knows none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def person() -> str:
    """`name@machine`."""
    return f"{user()}@{socket.gethostname()}"
