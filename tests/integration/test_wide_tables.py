"""Tables of many numbers: as texts they are more than a row of the twin's temporary tables can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, ground

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

FLOATS, TIMES = 500, 60
COLUMNS = ", ".join(
    [
        *(f'"f {n}" float8' for n in range(FLOATS)),
        *(f"t{n} timestamptz" for n in range(TIMES)),
        "small numeric(3, 1)",
        "body text",
    ]
)
VALUES = ", ".join([*["random()"] * FLOATS, *["clock_timestamp()"] * TIMES, "1.5", "repeat(md5(random()::text), 300)"])
RATES = f"create table rates (id int {{key}}, {COLUMNS}); alter table rates alter body set storage external"
WRITES = (
    f"insert into rates select n, {VALUES} from generate_series(20, 25) n",
    "update rates set \"f 7\" = null, \"f 8\" = 'NaN', t3 = 'infinity' where id in (2, 21)",
    "update rates set id = id + 100 where id = 3",
    "delete from rates where id in (4, 22)",
    "update rates set body = repeat('x', 9000), small = 2.5 where id = 5",
    "update rates set small = 1000 where id = 23",
)


@BOTH
@pytest.mark.parametrize("key", ["primary key", ""], ids=["keyed", "keyless"])
def test_their_rows_are_carried_and_keep_no_others_back(database: Target, tmp_path: Path, how: How, key: str) -> None:
    before = [*RATES.format(key=key).split("; "), f"insert into rates select n, {VALUES} from generate_series(1, 9) n"]
    widen = "alter table rates alter small type numeric(9, 1); create table later (like rates including all)"
    with ground(database, tmp_path, before, widen, how=how) as made:
        for statement in WRITES:
            made.write(statement)
        made.write(f"insert into later select 1, {VALUES}")
        outcome = made.carry()
        assert [one.kind for one in outcome.aside] == ["value"]
        rows = "select md5(r::text) from rates r where id <> 23 order by id"
        assert made.old(rows) == made.new(rows) and len(made.old(rows)) == 9 + 6 - 3
        stashed = (made.folder / "out" / "stash.jsonl").read_text()
        assert stashed.count('"f 499"') >= 1 and '"public.later"' in stashed
