"""A conductor whose terminal is gone goes on; told to end, it ends, although nobody can hear its last words."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli_errors import PLAN

from safepoint.errors import ExitCode
from safepoint.launch.lock import held
from safepoint.postgres.servers import free_port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_conductor_whose_terminal_is_gone_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "launch.toml").write_text(PLAN.format(port=free_port()))
    ledger, lock = (
        tmp_path / ".safepoint" / name for name in ("launches/shop-2-20310301/ledger.jsonl", "conductor-shop.lock")
    )
    ours, its = pty.openpty()
    env = {**os.environ, "SHOP_PASSWORD": "only-for-tests"}
    program = str(Path(sys.executable).parent / "safepoint")
    conductor = subprocess.Popen([program, "launch"], cwd=tmp_path, stdin=its, stdout=its, stderr=its, env=env)
    os.close(its)
    try:
        deadline = time.monotonic() + 60
        while not ledger.exists() or b'"kind":"run"' not in ledger.read_bytes():
            assert time.monotonic() < deadline and conductor.poll() is None
            time.sleep(0.05)
        os.close(ours)
        time.sleep(0.5)
        assert conductor.poll() is None and held(lock)
        conductor.send_signal(number)
        assert conductor.wait(20) == ExitCode.INTERRUPTED
        assert not held(lock)
    finally:
        conductor.kill()
        conductor.wait()
