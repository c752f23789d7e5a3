"""Connections to a scratch server may be encrypted: settings of an application may insist on it (`sslmode=require`).

They verify nobody then, so that any certificate will do: one is made for each server, and is gone with it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from safepoint.postgres.binaries import Installation
from safepoint.postgres.unprivileged import Account, account, reachable, run_as

OFFERED: Final = {"ssl": "on"}
"""The settings that ask for it: of the servers that an application is led to."""


def encrypting(programs: Installation, data: Path, who: Account) -> dict[str, str]:
    """Give a new server a certificate; the settings by which it offers encryption, where its build can."""
    if not _can(programs, data, who):
        return {"ssl": "off"}
    for name, text in zip(("server.crt", "server.key"), _certificate(), strict=True):  # where PostgreSQL looks for them
        path = data / name
        path.touch(mode=0o600)
        if who.change:
            os.chown(path, who.uid, who.gid)
        path.write_bytes(text)
    return {**OFFERED}


def _certificate() -> tuple[bytes, bytes]:
    """One that nobody but its own key has signed, and that key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "safepoint scratch")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    # A clock may be wrong by a day; a scratch server lives for hours.
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
    signed = made.sign(key, hashes.SHA256())
    return (
        signed.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


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
