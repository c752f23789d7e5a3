"""The live timeline over work that cannot be told piece by piece: it promises no time that is left."""

from __future__ import annotations

import pytest

from safepoint.cli.timeline_lines import progress_text
from safepoint.cli.timeline_state import Moving
from safepoint.progress import Progress


@pytest.mark.parametrize(("done", "said"), [(0, "begun"), (1, "done")])
def test_a_part_of_a_rehearsal_is_said_to_be_begun_or_done_and_nothing_of_the_step(done: int, said: str) -> None:
    moving = Moving(Progress("rehearsal: migrate", done, 1), first=10.0, first_done=0, latest=12.0)
    assert progress_text(moving, 15.0, bar=10, ascii_only=True) == f"rehearsal: migrate: {said}"
