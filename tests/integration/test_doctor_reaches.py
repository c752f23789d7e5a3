"""Doctor tries whether an application over SSH reaches the copies that it is rehearsed on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from least_plan import LEAST
from ssh_server import SSHD, ssh_server

from safepoint.config.load import parse
from safepoint.launch.doctor.doctor import rehearsal
from safepoint.launch.doctor.finding import Finding


@pytest.mark.skipif(SSHD is None, reason="there is no sshd on this machine (Debian: apt-get install openssh-server)")
def test_who_is_reached_over_ssh_is_lent_a_port_and_who_forwards_none_is_told(tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        told = server.settings().model_dump(mode="json", exclude_none=True)
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in told.items())
        more = f'[application]\nurl_env = "DATABASE_URL"\nhost = "app"\n[hosts.app]\n{lines}\n'
        plan = parse(LEAST + more, tmp_path / "launch.toml")

        def first() -> Finding:
            return next(rehearsal(plan, datetime.now(UTC)))

        assert first().verdict == "ok" and "by its sshd (tried)" in first().message
        keys = server.folder / "authorized_keys"
        keys.write_text("".join(f"restrict {line}\n" for line in keys.read_text().splitlines()))
        assert first().verdict == "failure" and "AllowTcpForwarding" in str(first().remedy)
