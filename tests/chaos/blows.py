"""What falls on a launch, where and when: drawn from a seed, so that a run that found something can be made again.

Runs go through the phases one after the other, and each phase through the kinds: a kind that few phases know takes
every second turn there, or a hundred runs would pass without it. What was really hit is counted.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_Anywhere = Literal[
    "conductor", "paused", "server", "refused", "frozen", "backend", "terminated", "link", "stalled", "other", "disk"
]
Kind = _Anywhere | Literal["follower", "dozing", "store", "slot", "return", "abort"]
"""Killed: the conductor, who follows after the launch, one backend of PostgreSQL. Stopped at once: PostgreSQL (and away
for a while: `refused`), the twin's own server. Asleep for a while: the conductor, all of PostgreSQL, who follows
(`dozing`, into a rollback). Ended by a person: half of the sessions. Cut: the conductor's link to it, at once or after
a silence. Full: the state folder's disk. Gone: the store, the capture's slot (and PostgreSQL with it). And two orders
of a person, from another terminal."""
Twin = Literal["copied", "level", "elsewhere"]
Course = Literal["back", "turned", "aborted", "retired", "again"]
"""Rolled back; turned round on the way back; aborted in the window; retired; launched again after a rollback."""

STANDING = "standing by"
RETIRING = "retire"
"""Two places that are no steps: after the launch, and `safepoint retire`."""

PHASES: Mapping[str, Mapping[str, float]] = {
    "seed": {"choose-twin": 0.2, "final-snapshot": 1.5, "seed-twin": 3.0},
    "follow": {"stage-new": 1.5, "ready": 1.5, STANDING: 2.0},
    "drain": {"twin": 0.4, "back-drain": 0.1},
    "migrate": {"migrate": 2.5, "migrate-check": 0.3},
    "arm": {"arm": 0.1, "unfence": 0.1},
    "spool": {"checkpoints": 0.4, "canary": 0.3, "watch": 0.5},
    "replay": {"back-ahead": 0.4, "back-carry": 0.5},
    "swap": {"back-swap": 0.05},
    "prove": {"proof": 2.0, "store": 0.1, "prove-way-back": 4.0, "final-proof": 2.0, "final-store": 0.1},
    "fence": {"stop-traffic": 0.1, "stop-old": 0.1, "fence": 0.3, "prove-quiet": 0.1},
    "open": {"start-new": 0.5, "cache": 0.5, "green": 0.1},
    "way back": {
        "back-fence": 0.2,
        "back-between": 0.1,
        "back-unfence": 0.1,
        "back-start-old": 0.3,
        "back-check": 0.7,
        "back-settled": 0.1,
        "back-list": 0.2,
        "back-disarm": 0.1,
        "back-stash": 0.05,
        "back-forget": 0.05,
    },
    "return": {
        "forth-stop-old": 0.5,
        "forth-fence": 0.2,
        "forth-between": 0.1,
        "forth-settled": 0.1,
        "forth-swap": 0.05,
        "forth-unfence": 0.1,
        "forth-start-new": 0.5,
        "forth-open": 0.1,
    },
    "undo": {
        "undo-fence": 0.1,
        "undo-stop-old": 0.5,
        "undo-stop-traffic": 0.1,
        "undo-twin": 0.2,
        "undo-stage-new": 0.5,
        "undo-choose-twin": 0.2,
    },
    "retire": {RETIRING: 1.0},
    "reattach": {"reattach": 0.2},
}
"""The phases, the steps in each, and about how many seconds each step takes on this stage."""

_COURSES: Mapping[str, Course] = {"return": "turned", "undo": "aborted", "retire": "retired", "reattach": "again"}
_TAKEN_BACK = frozenset({"replay", "swap", "way back", "return"})
_WITHOUT: Mapping[Course, frozenset[str]] = {
    "back": frozenset({"return", "undo", "retire", "reattach"}),
    "turned": frozenset({"undo", "retire", "reattach"}),
    "aborted": frozenset({"migrate", "arm", "spool", "open", "retire", "reattach", *_TAKEN_BACK}),
    "retired": frozenset({"undo", "reattach", *_TAKEN_BACK}),
    "again": frozenset({"return", "undo", "retire"}),
}
"""The phases that a course does not come through."""
_ORDERED: Mapping[Course, tuple[Kind, tuple[str, ...]]] = {
    "turned": ("return", ("back-fence", "back-carry", "back-swap", "back-between", "back-unfence", "back-start-old")),
    "aborted": ("abort", ("stop-old", "fence", "twin", "prove-quiet")),
}
"""The order of a course, and the steps in which it is given."""
# After a rollback to another server a next launch needs a plan of its own.
_TWINS: Mapping[str, tuple[Twin, ...]] = {
    "seed": ("level", "elsewhere"),
    "follow": ("level", "elsewhere"),
    "reattach": ("copied", "level"),
}


EVERYWHERE: tuple[Kind, ...] = (
    *("conductor", "server", "disk", "terminated", "other", "link", "paused", "backend", "frozen", "refused"),
    "stalled",
)
_ONLY: Mapping[Kind, frozenset[str]] = {
    "follower": frozenset({STANDING}),
    "dozing": frozenset({STANDING}),
    "slot": frozenset({STANDING, "watch"}),
    "store": frozenset({"store", "final-store"}),
}
"""The kinds that strike anywhere, and those that know few places."""
KINDS: tuple[Kind, ...] = (*EVERYWHERE, *_ONLY)
MOUNTS = os.geteuid() == 0
"""Whether a small disk can be mounted."""
AGAIN = 0.15
"""How many of the runs that could be any launch are the second one of a site, with a stash to attach again."""


@dataclass
class Blow:
    """What happens, in which step, how many seconds after its begin. `fell` is the step that it really hit."""

    kind: Kind
    step: str
    after: float
    fell: str | None = None
    due: float | None = field(default=None, repr=False)

    def is_due(self, begun: set[str], now: float) -> bool:
        """Whether it falls now: the step was seen to begin `after` seconds ago."""
        if self.fell is not None:
            return False
        if self.due is None and self.step in begun:
            self.due = now + self.after
        return self.due is not None and now >= self.due


@dataclass(frozen=True)
class Play:
    """One run: its course, on which ground, and what falls on it.

    `by_triggers`: the server cannot decode its log. `follows`: `safepoint follow` is at work after the launch.
    """

    course: Course
    twin: Twin
    blows: tuple[Blow, ...]
    by_triggers: bool = False
    follows: bool = False


def phase_of(step: str) -> str:
    """The phase that a step belongs to; its own name where it is in none."""
    return next((name for name, steps in PHASES.items() if step in steps), step)


def draw_play(seed: int) -> Play:
    """The run of a seed: neighbouring seeds strike different phases, and each time round another kind."""
    draw = random.Random(str(seed))  # the instants of blows, not secrets; neighbouring numbers draw alike
    place, turn = seed % len(PHASES), seed // len(PHASES)
    phase = list(PHASES)[place]
    twins = _TWINS.get(phase, ("copied", "level", "elsewhere"))
    kind = _kind(phase, twins, place, turn)
    twin: Twin = "elsewhere" if kind == "other" else draw.choice(twins)
    where = [one for one in PHASES[phase] if one in _ONLY.get(kind, (one,)) and _happens(one, kind, twin)]
    step = draw.choice(where)
    course = _COURSES.get(phase, "again" if twin != "elsewhere" and draw.random() < AGAIN else "back")
    blows = [Blow(kind, step, _after(draw, phase, step))]
    if course in _ORDERED:
        order, orders = _ORDERED[course]
        at = "prove-quiet" if step == "undo-twin" else draw.choice(orders)
        blows.insert(0, Blow(order, at, draw.uniform(0, 0.3)))
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        other = draw.choice([one for one in PHASES if one not in _WITHOUT[course]])
        blows.append(draw_blow(draw, other, draw.choice(_usual(twin))))
    triggers = twin == "copied" and kind != "slot" and draw.random() < 0.35
    return Play(
        course, twin, tuple(blows), triggers, follows=STANDING in (b.step for b in blows) or draw.random() < 0.5
    )


def draw_blow(draw: random.Random, phase: str, kind: Kind) -> Blow:
    """One of that kind somewhere in a phase."""
    step = draw.choice([one for one in PHASES[phase] if _happens(one, kind, "level")])
    return Blow(kind, step, _after(draw, phase, step))


def _after(draw: random.Random, phase: str, step: str) -> float:
    """Seconds after its begin; most fall before its end."""
    return draw.uniform(0, 0.9 * PHASES[phase][step])


def _kind(phase: str, twins: tuple[Twin, ...], place: int, turn: int) -> Kind:
    """Whose turn it is: of the kinds for which a phase is one of few, every second time."""
    rare = [kind for kind, steps in _ONLY.items() if not steps.isdisjoint(PHASES[phase])]
    usual = _usual(*twins)
    if rare and turn % 2 == 0:
        return rare[turn // 2 % len(rare)]
    number = turn // 2 if rare else turn
    return usual[(number * 7 + place) % len(usual)]  # none has a divisor in common with seven


def _usual(*twins: Twin) -> list[Kind]:
    """The kinds that strike anywhere, as far as there is what they strike."""
    return [one for one in EVERYWHERE if (one != "other" or "elsewhere" in twins) and (one != "disk" or MOUNTS)]


def _happens(step: str, kind: Kind, twin: Twin) -> bool:
    """Whether there is such a step with that twin, and somebody whom that kind strikes."""
    if step == "undo-choose-twin":
        return twin != "copied"
    return step != STANDING or kind not in ("conductor", "paused")


HIT: Counter[tuple[str, str]] = Counter()
LINES: list[str] = []
"""What all runs of this process have hit: by phase and kind, and a line for each blow."""


def note(seed: int, play: Play) -> None:
    """Take a run in that is over."""
    for blow in play.blows:
        where = "nothing" if blow.fell is None else f"{blow.fell} ({phase_of(blow.fell)})"
        LINES.append(f"{seed}: {play.course}, twin {play.twin}: {blow.kind} hit {where}")
        if blow.fell is not None and blow.kind not in ("return", "abort"):
            HIT[phase_of(blow.fell), blow.kind] += 1


def table() -> list[str]:
    """Phase by kind, how often each was hit."""
    lines = [" ".join([" " * 9, *KINDS])]
    for phase in PHASES:
        lines.append(" ".join([f"{phase:9}", *(f"{HIT[phase, kind] or '.':>{len(kind)}}" for kind in KINDS)]))
    return lines
