"""The window's first half on the copy: fence, safe point, twin and proof of quiet, by the launch's own code.

Sessions of our own stand in for the application's. The old release itself is left alone: its stop command would stop
the live site, and its start command could take what the live one has.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from psycopg import sql

from safepoint.config import PlanFile
from safepoint.errors import Interrupted, SafepointError
from safepoint.launch.rehearsal import fence_findings as findings
from safepoint.launch.verbs.stop import fenced_roles
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.scratch_databases import shared
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled
from safepoint.rehearsal import ground
from safepoint.rehearsal.checks import Check
from safepoint.wayback.fence import fence, quiet
from safepoint.wayback.fence.stand_in import StandIns
from safepoint.wayback.sessions import asking
from safepoint.wayback.trial.trial import LAUNCH
from safepoint.wayback.twin import twin

# The copy may be called `postgres` itself; nobody calls an application's database so.
_MAINTENANCE: Final = "template1"

_OTHERS: Final = """
SELECT r.rolname, r.rolsuper FROM pg_roles r
WHERE r.rolcanlogin AND r.rolname <> ALL(%s) AND r.rolname NOT LIKE 'safepoint\\_%%'
  AND has_database_privilege(r.oid, current_database(), 'CONNECT')
  AND (r.rolsuper OR EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND has_schema_privilege(r.oid, n.oid, 'USAGE')
      AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')))
ORDER BY 1
"""
_CAN_LOG_IN: Final = "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = ANY(%s) AND rolcanlogin ORDER BY 1"


@dataclass
class RehearsedFence:
    """The fence of a rehearsal: closed first, and opened again once the migrations have run, as a launch does it.

    `checks` say what was found, and `seconds` what each of the launch's steps took, by its name.
    """

    plan: PlanFile
    copy: Target
    before: str
    cancelled: Cancelled
    checks: list[Check] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _prior: fence.FencePrior | None = None
    _stand_ins: StandIns | None = None

    def close(self) -> Target:
        """Put it up, and make the twin at the safe point; gives the database as it was before the migrations.

        What fails is a finding, and the rehearsal goes on without the fence.

        Raises:
            Interrupted: it was cancelled.
            DatabaseError: there is no room for a copy.
        """
        self.checks.append(findings.old_not_stopped(self.plan.releases.old.version))
        if shared(self.copy):
            self.checks.append(findings.left_out())
            return ground.copy_of(self.copy, self.before)
        before = self.copy.on(self.before)
        try:
            self._close()
            with connect(self.copy.on(_MAINTENANCE)) as connection:  # a twin lets nobody in
                name = sql.Identifier(self.before)
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        except Interrupted:
            raise
        except SafepointError as error:
            self.checks.append(findings.broken(findings.FENCE, error))
            with suppress(SafepointError):
                self._reopen()
            self._prior = None
            ground.drop_copy(before)
            return ground.copy_of(self.copy, self.before)
        return before

    def open(self) -> None:
        """Take the holds back, and see that all is as before. Nobody may be connected in the application's name."""
        if self._prior is None or self._stand_ins is None:
            return
        began = time.monotonic()
        try:
            self._reopen()
            self.seconds["unfence"] = took = _since(began)
            after = fence.survey_fence(self.copy, self._roles, maintenance=_MAINTENANCE)
            self.checks.append(
                findings.judge_opened(self._prior, self._as_live(after), self._stand_ins.kept_out(), took)
            )
        except SafepointError as error:
            self.checks.append(findings.broken(findings.OPENED, error))

    @property
    def _roles(self) -> tuple[str, ...]:
        return fenced_roles(self.plan)

    def _close(self) -> None:
        prior = self._as_live(fence.survey_fence(self.copy, self._roles, maintenance=_MAINTENANCE))
        with connect(self.copy) as connection, asking("Standing in for the application", self.copy.dbname):
            named = [*self.plan.database.application_roles]
            logins = {str(name): bool(superuser) for name, superuser in connection.execute(_CAN_LOG_IN, [named])}
            self.checks.append(findings.judge_others(self._others(connection)))
            self._stand_ins = stand_ins = StandIns(self.copy, list(logins))
        with stand_ins:
            began = time.monotonic()
            self._prior = prior
            facts = fence.close(self.copy, prior, maintenance=_MAINTENANCE)
            mark = quiet.mark_quiet(self.copy, LAUNCH, maintenance=_MAINTENANCE)
            self.seconds["fence"] = _since(began)
            stand_ins.fenced()
            proof = self._twin_and_proof(prior, mark)
            state = fence.standing(self.copy, prior, maintenance=_MAINTENANCE)
            quiet.drop_quiet_slot(self.copy, LAUNCH, maintenance=_MAINTENANCE)  # as a launch does before it migrates
        superusers = [name for name, superuser in logins.items() if superuser]
        self.checks.append(findings.judge_fence(prior, facts, state, stand_ins.stood(), superusers))
        self.checks.append(findings.judge_quiet(proof))

    def _twin_and_proof(self, prior: fence.FencePrior, mark: quiet.QuietMark) -> quiet.Quiet:
        """As the launch's steps `twin` and `prove-quiet` do it: without a slot, quiet is proven around the copy."""
        with self._timed("twin"):
            at = quiet.safe_point(self.copy, maintenance=_MAINTENANCE)
            until = None if mark.slot else quiet.prove_quiet(self.copy, mark, maintenance=_MAINTENANCE)
            first = quiet.mark_again(self.copy, mark, maintenance=_MAINTENANCE) if until else mark
            made = twin.make_twin(
                self.copy,
                self.before,
                LAUNCH,
                at=at,
                prior=prior,
                maintenance=_MAINTENANCE,
                cancelled=self.cancelled,
            )
            then = quiet.mark_again(self.copy, mark, maintenance=_MAINTENANCE) if until else mark
        with self._timed("prove-quiet"):
            found = quiet.prove_quiet(self.copy, then, maintenance=_MAINTENANCE)
        if until is None:
            return found
        used = then.next_xid - first.next_xid
        return quiet.around_copy(until, used, made.transactions or None, found)

    def _as_live(self, prior: fence.FencePrior) -> fence.FencePrior:
        """The conductor's login of the live server keeps its login there; on the copy another one is used."""
        own = tuple(role for role in prior.logins if role == self.plan.database.user)
        return replace(prior, logins=tuple(role for role in prior.logins if role not in own), shared_roles=own)

    def _others(self, connection: Connection) -> findings.Others:
        ours = [*self.plan.database.application_roles, self.plan.database.user]
        found = connection.execute(_OTHERS, [ours]).fetchall()
        return findings.Others(
            tuple(str(name) for name, superuser in found if not superuser),
            tuple(str(name) for name, superuser in found if superuser),
        )

    def _reopen(self) -> None:
        if self._prior is not None:
            fence.reopen(self.copy, self._prior, maintenance=_MAINTENANCE)
        quiet.drop_quiet_slot(self.copy, LAUNCH, maintenance=_MAINTENANCE)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[step] = _since(began)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
