"""Signals as an order: obeyed once, and told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from safepoint.cli.order import ordered


def test_the_first_signal_is_the_order_and_further_ones_are_answered(capfd: pytest.CaptureFixture[str]) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with ordered("all is put away") as order:
            assert not order()
            os.kill(os.getpid(), signal.SIGTERM)
            assert order() and order.name == "SIGTERM"
            os.kill(os.getpid(), signal.SIGINT)
            assert order.name == "SIGTERM"
        said = capfd.readouterr().err
        assert "SIGTERM: all is put away" in said and "ending already (SIGTERM)" in said
        # The process is about to end with its own exit code, which a late one does not change.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    with ordered("nothing came"):
        pass
    assert {one: signal.getsignal(one) for one in before} == before


def test_closed_standard_streams_are_no_files_of_ours_and_no_fault(tmp_path: Path) -> None:
    """The number of a closed stream goes to the next file that is opened: a ledger, where errors would be written."""
    code = (
        "import os, sys\n"
        "from safepoint.cli.streams import open_streams\n"
        "open_streams()\n"
        "sys.stdout.flush(), sys.stderr.isatty()\n"
        "number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "os.write(number, b'%d' % number)\n"
    )
    said = tmp_path / "said"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, str(said)], check=False, timeout=60
    )
    assert done.returncode == 0 and int(said.read_text()) > 2
