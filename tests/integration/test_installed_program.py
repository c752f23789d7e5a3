"""A product that is run by a command of its package, which keeps short words of the command line for itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from django_site import manage_of, write_site
from loaded_django import python
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.django.inspector import inspect
from safepoint.django.piped import ask
from safepoint.django.standby import Standby
from safepoint.errors import Refused
from safepoint.launch.draft import draft_plan
from safepoint.postgres.target import Target

# As installed products do: settings are a file that `-c` names, wherever it stands, and the rest goes to Django.
PROGRAM = """#!{python}
import argparse, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("-c", "--config-path", default="{settings}")
known, words = parser.parse_known_args()
if not os.path.exists(known.config_path):
    raise FileNotFoundError(f"Configuration file not found at {{known.config_path}}")
sys.path.insert(0, "{source}")
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from django.core.management import execute_from_command_line
execute_from_command_line([sys.argv[0], *words])
"""


@pytest.fixture
def program(tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATABASE_URL", database.url())
    source = write_site(tmp_path) / "src"
    (source / "manage.py").unlink()
    made = tmp_path / "shop-server"
    made.write_text(PROGRAM.format(python=python(), settings=source / "shop/settings.py", source=source))
    made.chmod(0o755)
    return made


def test_a_program_that_keeps_c_for_itself_is_asked(program: Path, tmp_path: Path, database: Target) -> None:
    manage = manage_of(tmp_path, database)
    manage = replace(manage, release=manage.release.model_copy(update={"manage": (str(program),)}))
    assert inspect(manage).settings == "shop.settings"
    standby = Standby(manage)
    assert standby.ready(20)
    assert ask(manage, "project", {"database": "default"}, standby=standby)["settings"] == "shop.settings"


def test_a_plan_file_is_drafted_of_one(program: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        draft_plan(tmp_path, tmp_path / "launch.toml")
    assert caught.value.remedy is not None and "--program" in caught.value.remedy
    words = ["init", str(tmp_path), "--program", str(program), "--file", str(tmp_path / "launch.toml")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    plan = load(tmp_path / "launch.toml")
    assert plan.releases.old.manage == plan.releases.new.manage == (str(program),)
    assert plan.application.url_env == "DATABASE_URL"
