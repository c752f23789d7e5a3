"""A user without a name, as in a container that runs by a number, can do all that others can."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from safepoint.launch.lock import ConductorLock, holder
from safepoint.person import person


def test_a_user_without_a_name_is_told_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    nobody = max(one.pw_uid for one in pwd.getpwall() if one.pw_uid < 2**31) + 1
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    assert person().startswith(f"uid {nobody}@")
    with ConductorLock(tmp_path / "conductor.lock", "accounting-2.0", "safepoint launch"):
        who = holder(tmp_path / "conductor.lock")
        assert who is not None and who.user == f"uid {nobody}"
