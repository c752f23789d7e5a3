# mypy: ignore-errors
"""The frame of every piped script: run `answer`, and write its JSON between markers to the real standard output.

It is executed in the application's Python (3.8 or newer) with the name `work` given: scripts, each the source of a
module with a function `answer(parameters)`, their parts and parameters, and the marker. Anything may be printed around
it by settings, apps or signal handlers: only what stands between the markers counts.
"""

import json
import os
import sys
import types


def lend(parts):
    """Let a script import its parts, each as `safepoint_NAME`: nothing of the project is called so."""
    for name, source in parts.items():
        part = types.ModuleType("safepoint_" + name)
        exec(compile(source, "<safepoint>", "exec"), vars(part))  # noqa: S102 - as the script itself
        sys.modules[part.__name__] = part


def reply(work):
    """Run the script and answer `{"answer": ...}` or `{"error": {"kind", "message"}}`; never a traceback."""
    room = {"__name__": "safepoint_script"}
    try:
        lend(work["parts"])
        exec(compile(work["script"], "<safepoint>", "exec"), room)  # noqa: S102 - this is what it is for
        return {"answer": room["answer"](work["parameters"])}
    except (Exception, SystemExit) as error:  # settings and apps may call sys.exit, and that is no answer
        kind = type(error)
        return {"error": {"kind": kind.__module__ + "." + kind.__name__, "message": str(error)}}


def leave():
    """A process that waits for more work holds no connection: somebody may want to copy its database.

    Nor is one of the time before the work used, which an app may have opened while it was loaded: its database may
    have been exchanged for another one since, which ended it.
    """
    try:
        from django.db import connections

        connections.close_all()
        # A pool (Django 5.1 and newer) keeps sessions of its own; the next query makes another one.
        for connection in connections.all():
            if hasattr(connection, "close_pool"):
                connection.close_pool()
    except Exception:  # noqa: S110 - whoever wants the database alone will say that somebody is there
        pass


def run(work):
    """Each script's reply."""
    leave()
    replies = {name: reply(one) for name, one in work["scripts"].items()}
    leave()
    return replies


def write(marker, answer):
    """Write past `sys.stdout`, which the project may have replaced or closed."""
    sys.stdout.flush()
    text = "\n" + marker + json.dumps(answer, default=str) + marker + "\n"
    data = text.encode("ascii")
    while data:
        data = data[os.write(1, data) :]


write(work["marker"], run(work))  # noqa: F821 - given by whoever executes this
