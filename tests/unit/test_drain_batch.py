"""How many changes a drain reads at a time: as many as fit, whatever a change weighs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safepoint.wayback.capture import log_drain


@given(changes=st.integers(0, 10**9), each=st.integers(1, 2**30))
def test_a_read_is_large_but_no_file_of_the_servers_grows_beyond_it(changes: int, each: int) -> None:
    batch = log_drain.batch_after(changes, changes * each)
    assert log_drain._BATCH <= batch <= log_drain._MOST
    assert batch == log_drain._BATCH or batch * each <= log_drain._READ + each


def test_before_anything_is_known_it_is_cautious() -> None:
    assert log_drain.batch_after(0, 0) == log_drain._BATCH
