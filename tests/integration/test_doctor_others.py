"""The doctor on a project with further databases: which this launch does not touch, and what is pending there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from loaded_django import python
from ready_shop import NOW, Shop, found

from safepoint.launch.doctor import releases as doctor_releases
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

SETTINGS = """
import os
from shop.settings import *
DATABASES["reports"] = {{"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("REPORTS", {path!r})}}
DATABASES["again"] = DATABASES["default"]
DATABASES["none"] = {{"ENGINE": "django.db.backends.dummy"}}
"""


def test_what_is_pending_in_a_further_database_is_told_for_no_step_applies_it(ready: Shop, tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(SETTINGS.format(path=str(tmp_path / "reports.sqlite3")))
    env = {"DJANGO_SETTINGS_MODULE": "several", "PYTHONPATH": str(tmp_path)}
    words = ", ".join(f'{name} = "{value}"' for name, value in env.items())
    plan = ready.plan(tmp_path, lambda text: text.replace("[releases.new]", f"[releases.new]\nenv = {{ {words} }}"))
    new = tuple(doctor_releases.new_release(plan, NOW))
    assert "(reports), which this launch does not touch" in found(new, "release-new", "further").message
    assert found(new, "release-new", "by another alias").message.endswith("alias: again")
    assert not [one for one in new if "pending in the database" in one.message]  # `migrate` never had it
    subprocess.run(
        [python(), "src/manage.py", "migrate", "shop", "0001", "--database", "reports", "-v", "0"],
        cwd=ready.folder,
        env={**os.environ, **env},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    told = found(tuple(doctor_releases.new_release(plan, NOW)), "migrations", "pending in the database 'reports'")
    assert told.verdict == "warning" and "No step applies them" in told.message
    assert "migrate --database reports" in str(told.remedy)


def test_a_further_database_that_a_rehearsal_would_not_leave_alone_is_a_failure_until_it_is_led_to_a_copy(
    ready: Shop, tmp_path: Path
) -> None:
    (tmp_path / "several.py").write_text(SETTINGS.format(path=str(tmp_path / "reports.sqlite3")))
    env = f'env = {{ DJANGO_SETTINGS_MODULE = "several", PYTHONPATH = "{tmp_path}" }}\n'

    def edit(text: str) -> str:
        return text.replace("[releases.new]", f"[releases.new]\n{env}").replace('env = { SHOP = "old" }', env)

    new = tuple(doctor_releases.new_release(ready.plan(tmp_path, edit), NOW))
    told = found(new, "release-new", "The application has other databases: reports")
    assert told.verdict == "failure" and "would end at its rehearsal" in told.message
    assert "[rehearsal] env" in str(told.remedy)
    led = '[rehearsal.env]\nREPORTS = "{folder}/reports.sqlite3"\n'
    new = tuple(doctor_releases.new_release(ready.plan(tmp_path, lambda text: edit(text) + led), NOW))
    assert found(new, "release-new", "In the rehearsal database 'reports' is led elsewhere").verdict == "ok"
    left_out = "[rehearsal]\nrequired = false\n"
    new = tuple(doctor_releases.new_release(ready.plan(tmp_path, lambda text: edit(text) + left_out), NOW))
    assert not [one for one in new if "has other databases" in one.message]


def test_a_further_database_on_the_same_server_is_led_along_to_that_of_the_copy_where_it_is_not(
    ready: Shop, tmp_path: Path, new_database: Callable[[Server], Target], server: Server
) -> None:
    beside = new_database(server).dbname
    text = f'from shop.settings import *\nDATABASES["reports"] = {{**DATABASES["default"], "NAME": "{beside}"}}\n'
    (tmp_path / "several.py").write_text(text)
    env = f'env = {{ DJANGO_SETTINGS_MODULE = "several", PYTHONPATH = "{tmp_path}" }}\n'

    def edit(text: str) -> str:
        return text.replace("[releases.new]", f"[releases.new]\n{env}").replace('env = {{ SHOP = "old" }}', env)

    plan = ready.plan(tmp_path, edit)
    told = found(tuple(doctor_releases.new_release(plan, NOW)), "release-new", "'reports' is led along")
    assert told.verdict == "ok", told
    done = rehearse(plan)
    assert "shop.0002_price" in [run.label for run in done.observed.migrations]
    assert any("'reports' is led along to the copy's server" in note for note in done.notes), done.notes
