"""What a rollback puts away, and whom it lists, is on the disk before the database forgets it: the power may fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, ground

from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import Gathering, UserTable, write_letters
from safepoint.wayback.affected.letters import Words
from safepoint.wayback.affected.written import list_written
from safepoint.wayback.stash.stash import TAKEN, give_back, keep_stash, read_stashes, take

LONG = "a name that is longer than twenty letters"


class Disk:
    """What stood in each file, and which names in each folder, when it was synced last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files: dict[str, bytes] = {}
        self._folders: dict[Path, set[str]] = {}
        self._fsync = os.fsync
        monkeypatch.setattr("os.fsync", self._synced)

    def _synced(self, handle: int) -> None:
        self._fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            self._folders[path] = {one.name for one in path.iterdir()}
        else:  # by number: a file is written under one name, and has another one then
            self._files[_number(path)] = path.read_bytes()

    def lacks(self, *paths: Path) -> list[str]:
        """Those that are not as they are, or where they are, after the power failed."""
        kept = [self._files.get(_number(path)) == path.read_bytes() for path in paths]
        named = [path.name in self._folders.get(path.parent, ()) for path in paths]
        return [path.name for path, *whole in zip(paths, kept, named, strict=True) if not all(whole)]

    def holds(self, path: Path) -> bool:
        """Whether a name is in its folder after the power failed."""
        return path.name in self._folders.get(path.parent, ())


def _number(path: Path) -> str:
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"


def test_it_is_whole_and_in_its_place_after_the_power_failed(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write(f"insert into customer (name) values ('{LONG}')", "update purchase set note = 'x' where id = 1")
        disk = Disk(monkeypatch)
        outcome = made.carry()
        listed, letters = made.folder / "affected.csv", made.folder / "letters.csv"
        list_written(made.live, made.spool, listed)
        with Gathering(made.folder) as gathering:
            words = Words("shop", "1.0", "2.0")
            write_letters(gathering, made.live, UserTable.of({}), words, letters, shown=1)
        files = [Path(path) for path in outcome.files.values()]
        stash = keep_stash(
            tmp_path,
            LAUNCH,
            "2.0",
            Path(outcome.files["stash"]),
            made.live,
            made.mapping(),
            spool=made.spool,
            owner="shop",
        )
        assert stash is not None and stash.count == 2
        assert disk.lacks(listed, letters, *files, *stash.folder.iterdir()) == []
        assert disk.holds(stash.folder) and disk.holds(stash.folder.parent)
    take(stash, "shop-2.1")
    assert disk.holds(stash.folder / TAKEN)
    assert [one.launch_id for one in give_back(tmp_path, "shop-2.1")] == [LAUNCH]
    assert not disk.holds(stash.folder / TAKEN), "the rows would wait for nobody any more"
    assert read_stashes(tmp_path)[0].taken_by is None
