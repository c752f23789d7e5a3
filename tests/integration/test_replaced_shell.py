"""A project that has put a `shell` of its own in the place of Django's, which asks for words that only it knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from django_site import manage_of, write_site

from safepoint.django.inspector import inspect
from safepoint.django.managepy import Manage
from safepoint.django.piped import ask
from safepoint.django.standby import Standby
from safepoint.errors import CommandFailed
from safepoint.postgres.target import Target

SHELL = """
import sys
from django.core.management.commands import shell

class Command(shell.Command):
    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--tenant")

    def handle(self, *args, **options):
        if not options.pop("tenant"):
            self.stdout.write("Call this command with a --tenant!")
            sys.exit(-1)
        return super().handle(*args, **options)
"""
NOWHERE = Target(host="127.0.0.1", port=1, user="nobody", dbname="nowhere")


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    site = write_site(tmp_path)
    commands = site / "src/shop/management/commands"
    commands.mkdir(parents=True, exist_ok=True)
    (commands / "shell.py").write_text(SHELL)
    return manage_of(site, NOWHERE)


def called(manage: Manage, *words: str) -> Manage:
    return replace(manage, release=manage.release.model_copy(update={"manage": words}))


def test_a_project_with_a_shell_of_its_own_is_asked_by_that_of_django(manage: Manage) -> None:
    project = inspect(manage)
    assert project.settings == "shop.settings" and "shell" in project.commands
    # From now on it is known: a process that waits is there at the first try.
    standby = Standby(manage)
    assert standby.ready(20)
    assert ask(manage, "project", {"database": "default"}, standby=standby)["settings"] == "shop.settings"


def test_so_is_one_whose_manage_is_a_module(manage: Manage, tmp_path: Path) -> None:
    (tmp_path / "src/shop/__main__.py").write_text((tmp_path / "src/manage.py").read_text())
    env = {**manage.env, "PYTHONPATH": str(tmp_path / "src")}
    by_module = replace(called(manage, manage.release.manage[0], "-m", "shop"), env=env)
    assert inspect(by_module).settings == "shop.settings"


def test_where_manage_says_no_python_it_is_told_what_to_write_there(manage: Manage, tmp_path: Path) -> None:
    wrapper = tmp_path / "shop-manage"
    wrapper.write_text(f'#!/bin/sh\nexec {manage.release.manage[0]} src/manage.py "$@"\n')
    wrapper.chmod(0o755)
    with pytest.raises(CommandFailed, match="Call this command with a --tenant!") as caught:
        inspect(called(manage, str(wrapper)))
    assert caught.value.remedy is not None and '"manage.py"' in caught.value.remedy


def test_what_is_wrong_with_the_project_is_told_as_before(manage: Manage, tmp_path: Path) -> None:
    with (tmp_path / "src/shop/settings.py").open("a") as settings:
        settings.write('\nraise ValueError("no such thing")\n')
    with pytest.raises(CommandFailed, match="ValueError: no such thing"):
        inspect(manage)
