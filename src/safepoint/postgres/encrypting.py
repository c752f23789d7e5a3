"""Connections to a scratch server may be encrypted: settings of an application may insist on it (`sslmode=require`).

They verify nobody then, so that any certificate will do. This one is known to everybody, its key as well, and protects
nothing; nor has it to: a scratch server listens on 127.0.0.1 only, and lets nobody in but by a password.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from safepoint.postgres.binaries import Installation
from safepoint.postgres.unprivileged import Account, account, reachable, run_as

_CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIBjzCCATWgAwIBAgIUCcHnYrBDW/gXasxPe0QZk3OaKlowCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRc2FmZXBvaW50IHNjcmF0Y2gwIBcNMjYxMTI3MjMwNzEyWhgP
MjEyNjExMDMyMzA3MTJaMBwxGjAYBgNVBAMMEXNhZmVwb2ludCBzY3JhdGNoMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAElfz/qkJPTfzUP67zIdTF+xn/MQ/1c4FQ
MFQkDUKzfxcXibrbsIZ7tqYfu94jt5sSDB4wkGHdgsRFjWApPsB5RqNTMFEwHQYD
VR0OBBYEFFnXFP+hvbiEC9KyXhiluaMGuJkoMB8GA1UdIwQYMBaAFFnXFP+hvbiE
C9KyXhiluaMGuJkoMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIh
ANT8uLPEY/RZon6kZBfTWFRIkpPjcDEN1oO5fR6C8YHwAiBi/VflHpqTGEh6CZwu
HXPdmfkQK3bi56VX71xPANHXHw==
-----END CERTIFICATE-----
"""
_KEY: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfdTprf/3avp/zb9s
4JmSXJRA/cm5hlrLk7QJameBU9ChRANCAASV/P+qQk9N/NQ/rvMh1MX7Gf8xD/Vz
gVAwVCQNQrN/FxeJutuwhnu2ph+73iO3mxIMHjCQYd2CxEWNYCk+wHlG
-----END PRIVATE KEY-----
"""
_FILES: Final = {"server.crt": _CERTIFICATE, "server.key": _KEY}  # where PostgreSQL looks for them


def encrypting(programs: Installation, data: Path, who: Account) -> dict[str, str]:
    """Give a new server that certificate; the settings by which it offers encryption: none where its build cannot."""
    if not _can(programs, data, who):
        return {}
    for name, text in _FILES.items():
        path = data / name
        path.touch(mode=0o600)
        if who.change:
            os.chown(path, who.uid, who.gid)
        path.write_text(text, encoding="ascii")
    return {"ssl": "on"}


def can_encrypt(installation: Installation) -> bool:
    """Whether this build of PostgreSQL can: some are made without."""
    who = account()
    with TemporaryDirectory(prefix="safepoint-build-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "postgresql.conf").touch(mode=0o644)
        return _can(reachable(who, installation), folder, who)


def _can(programs: Installation, data: Path, who: Account) -> bool:
    argv = [programs.program("postgres"), "-D", str(data), "-C", "ssl", "-c", "ssl=on"]
    return run_as(who, argv, env={"TZ": "UTC"}).returncode == 0
