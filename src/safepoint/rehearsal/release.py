"""The new release on the migrated copy: whether it may be started there, and what its answers mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safepoint.rehearsal.checks import Check, judged, listed

# These start a service that does not get the environment of whoever starts it: it would go to the live database.
_MANAGERS = frozenset(
    (
        *("systemctl", "service", "initctl", "rc-service", "launchctl", "supervisorctl", "sv", "s6-svc", "pm2"),
        *("docker", "docker-compose", "podman", "nerdctl", "kubectl", "helm", "nomad", "ssh"),
    )
)


def judge_release(
    path: str, errors: Sequence[str], pending: Sequence[str], status: int | None, fault: str | None
) -> tuple[Check, ...]:
    """The new release on the migrated copy: what `migrate --check`, `check` and its health page would say. Pure."""
    left = Check("migrate --check", "pass", "no migration is left")
    if pending:
        left = Check("migrate --check", "fail", f"still pending: {', '.join(pending)}", tuple(pending))
    own = judged("system check", "manage.py check finds no error", "errors of manage.py check", tuple(errors))
    said = f"{path} answers {status}" if status is not None else f"{path} does not answer"
    said += f": {fault}" if fault else ""
    if status == 200:
        return left, own, Check("health page", "pass", said)
    if status is not None and status < 400:
        # A redirect to the login, mostly: the release would be given up in the window, however well it is.
        said += "; the launch waits for 200: let releases.new.health name a page that answers so without a login"
        return left, own, Check("health page", "fail", said)
    # A refusal (a host name, a login) may be this machine's; an error of the server is the release's own, unless it
    # comes from the cache that stands in for the live one.
    ours = (status is not None and status < 500) or "LocMemCache" in (fault or "")
    return left, own, Check("health page", "warning" if ours else "fail", said)


def judge_caches(
    verdicts: Mapping[str, str],
    whose: Mapping[str, tuple[str, str]],
    *,
    missing: Sequence[str] = (),
    left: Sequence[str] = (),
    fault: str | None = None,
) -> Check:
    """Clearing the new release's caches on the copy. What the live site shares is left alone, and that is said. Pure.

    Args:
        verdicts: by alias, as `ClearedCache.verdict` says it; of the stand-in where the cache is shared.
        whose: by alias its name for people, and `private`, `copy`, `own` or `shared`.
        missing: commands that the project does not have.
        left: commands that were not run.
    """
    if fault is not None:
        return Check("cache", "fail", f"it cannot be cleared: {fault}")
    shared = [name for name, kind in whose.values() if kind == "shared"]
    ours = {alias: name for alias, (name, kind) in whose.items() if kind in ("copy", "own")}
    kept = [ours[alias] for alias in ours if verdicts[alias] == "kept"]
    dead = [ours[alias] for alias in ours if verdicts[alias] == "unreachable"]
    empty = [ours[alias] for alias in ours if verdicts[alias] == "cleared"]
    private = [name for name, kind in whose.values() if kind == "private"]
    commands = f"not run: manage.py {', '.join(left)}, as it may clear what the live site uses" if left else ""
    parts = [
        listed("still holds a key that was set before: {}", kept),
        listed("not rehearsed: {}, which the live site shares ([rehearsal] env can lead it elsewhere)", shared),
        commands,
        listed("holds nothing, not even what was just set: {}", dead),
        listed("proven empty: {}", empty),
        listed("inside the processes, emptied by their restart: {}", private),
        listed("no such command here: {}", missing),
    ]
    said = "; ".join(part for part in parts if part) or "the project has no cache"
    if kept:
        return Check("cache", "fail", said, tuple(kept))
    if shared or left:
        return Check("cache", "not rehearsed", said, (*shared, *left))
    return Check("cache", "warning" if dead else "pass", said, tuple(dead))


def why_not_started(start: Sequence[str], *, here: bool, open_port: bool, shared: Sequence[str]) -> str | None:
    """Why the new release's start command must not be run for a rehearsal; None where nothing live is touched. Pure.

    Args:
        here: whether the application runs on this machine, as the scratch server does.
        open_port: whether the plan leaves the port open (`{port}`).
        shared: names of its caches that the live site shares.
    """
    manager = next((word for word in start if word.rpartition("/")[2] in _MANAGERS), None)
    if not here:
        return "the application runs on another machine, and only the ports and processes of this one are known"
    if manager is not None:
        return f"{manager} does not hand on the variable that leads to the copy: it would work on the live database"
    if not open_port:
        return "it always takes the live port: write {port} for it in start and stop of [releases.new]"
    if shared:
        return (
            f"it would write to what the live site shares: {', '.join(shared)}; [rehearsal] env can lead it elsewhere"
        )
    return None
