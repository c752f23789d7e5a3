"""Who logs in after a launch writes secrets: none of them stands in a list, a letter, the ledger or a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from replay_ground import ground
from test_affected import told

from safepoint.postgres.masking import is_secret
from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import UserTable

# As Django REST framework and django-otp have them: the key of a token is the token.
BEFORE = """
create table auth_user (id int primary key, username varchar(10) not null unique, email text);
create table authtoken_token (key varchar(40) primary key, user_id int not null references auth_user);
create table otp_totp_totpdevice (id int primary key, key varchar(80), user_id int not null references auth_user);
insert into auth_user values (1, 'ann', 'ann@x.org');
"""
TOKEN, SEED = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", "3132333435363738393031323334353637383930"


def test_a_token_that_was_made_after_the_launch_stands_nowhere(database: Target, tmp_path: Path) -> None:
    wide = "alter table auth_user alter username type text"
    with ground(database, tmp_path, BEFORE, wide) as made:
        made.write(
            "insert into auth_user values (2, 'far too long for it', 'b@x.org')",
            f"insert into authtoken_token values ('{TOKEN}', 2)",
            f"insert into otp_totp_totpdevice values (1, '{SEED}', 2)",
        )
        outcome = made.carry()
        found, rows = told(made, UserTable(), given={})
    assert [row["fate"] for row in rows] == ["stashed"] * 3
    ledger = json.dumps(outcome.as_json())
    shown = [(tmp_path / name).read_text() for name in ("affected.csv", "affected-users.csv")]
    for text in (ledger, *shown, str(found.accounts)):
        assert TOKEN not in text and SEED not in text
    assert "authtoken_token key=***" in shown[1] and '"key": "***"' in ledger


@pytest.mark.parametrize(
    ("table", "column", "secret"),
    [
        ("authtoken_token", "key", True),
        ("public.knox_authtoken", "digest", True),
        ("otp_totp_totpdevice", "key", True),
        ("mfa_authenticator", "data", True),
        ("legacy_user", "pwd", True),
        ("wifi", "passphrase", True),
        ("rest_framework_api_key_apikey", "hashed_key", True),
        ("shop_setting", "key", False),
        ("shop_coupon", "code", False),
        ("authtoken_token", "user_id", False),
    ],
)
def test_columns_that_hold_a_secret_are_known_by_their_table_too(table: str, column: str, secret: bool) -> None:
    assert is_secret(column, table) is secret
