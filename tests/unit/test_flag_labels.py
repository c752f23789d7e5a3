"""The words of the report's flags (orders, conductors that took over) lie neither over each other nor over the edge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safepoint.launch.report.chart import LABELS, WIDTH, _wide, flag_labels

PLACES = st.lists(st.floats(LABELS, WIDTH), max_size=40).map(sorted)
WORDS = st.sampled_from(["go", "hold", "rollback", "resumed"])


@given(PLACES, st.lists(WORDS, min_size=40, max_size=40))
def test_no_word_lies_over_another_or_over_the_edge(places: list[float], words: list[str]) -> None:
    labels = [one for one in flag_labels(list(zip(places, words, strict=False))) if one[1]]
    ends = [x + _wide(word) for x, word in labels]
    assert all(end <= x + 0.01 for end, (x, _) in zip(ends, labels[1:], strict=False))
    assert all(x >= LABELS for x, _ in labels) and all(end <= WIDTH + 0.01 for end in ends)


def test_with_room_each_stands_beside_its_line() -> None:
    assert flag_labels([(400, "resumed"), (600, "go")]) == [(406, "resumed"), (606, "go")]


def test_flags_that_stand_together_have_one_word_and_their_number() -> None:
    assert [word for _, word in flag_labels([(400, "retry"), (402, "retry"), (404, "retry")])] == ["retry ×3", "", ""]
    assert [word for _, word in flag_labels([(400, "hold"), (402, "go"), (404, "abort")])] == ["hold +2", "", ""]


def test_at_the_edge_it_stands_before_its_line() -> None:
    ((x, word),) = flag_labels([(WIDTH - 10, "rollback")])
    assert word == "rollback" and x + _wide(word) <= WIDTH - 10
