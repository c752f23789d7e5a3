"""Settings that are made over a project's own, for a copy: what the application sees through them, and when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from safepoint.config import Release
from safepoint.django.inspector import inspect
from safepoint.django.managepy import Manage
from safepoint.django.pointing import VARIABLE, settings_over
from safepoint.hosts.here import Here

MANAGE = """
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""
# It has code of its own run before it has ended, as products do that start their error reporting there.
SETTINGS = """
SECRET_KEY = "only-for-tests"
WORD = "written"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "live", "HOST": "127.0.0.1"}}
from reporting import seen
SEEN = seen()
LATER = "too"
"""
REPORTING = """
from django.conf import settings

def seen():
    return [settings.WORD, settings.DATABASES["default"]["NAME"], hasattr(settings, "LATER")]
"""
# What Dynaconf does: Django's settings are replaced, and call themselves by the file that they were read from.
RENAMED = """
import os
from django.conf import settings

exec(open(os.path.join(os.path.dirname(__file__), "site.py")).read())
SETTINGS_MODULE = os.path.join(os.path.dirname(__file__), "site.py")
"""
CONFIGURED = """
import os
import sys
from django.conf import settings

settings.configure(SECRET_KEY="only-for-tests", WORD=os.environ.get("SHOP_WORD"), DATABASES={
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "live", "HOST": "127.0.0.1", "PORT": "1"}})
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


def project(folder: Path, **files: str) -> Manage:
    """A project of a `manage.py` and some modules beside it."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    release = Release(
        version="1",
        directory=str(folder),
        manage=(sys.executable, "manage.py"),
        start=("true",),
        stop=("true",),
        upstream="127.0.0.1:1",
    )
    return Manage(Here("here", folder), release, {}, {}, str(folder))


def test_code_that_the_settings_run_sees_what_they_have_set_so_far_and_the_copy(tmp_path: Path) -> None:
    own = project(tmp_path, manage=MANAGE, site_settings=SETTINGS, reporting=REPORTING)
    env = settings_over(own, tmp_path / "over", {})
    env = {**os.environ, **env, VARIABLE: "postgresql://someone:word@127.0.0.1:12345/copy"}
    look = "import json; from django.conf import settings as s; print(json.dumps([s.SEEN, s.LATER, s.DATABASES]))"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen, later, databases = json.loads(done.stdout)
    assert seen == ["written", "copy", False] and later == "too"
    assert databases["default"]["NAME"] == "copy" and databases["default"]["PORT"] == "12345"


ALIASES = """
SECRET_KEY = "only-for-tests"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "live", "HOST": "127.0.0.1"},
    "job_logs": {"ENGINE": "django.db.backends.postgresql", "NAME": "live", "HOST": "127.0.0.1", "PORT": ""},
    "reports": {"ENGINE": "django.db.backends.postgresql", "NAME": "reports", "HOST": "127.0.0.1"},
}
"""


def test_another_alias_of_the_same_database_is_led_along_and_another_database_is_not(tmp_path: Path) -> None:
    own = project(tmp_path, manage=MANAGE, site_settings=ALIASES)
    env = settings_over(own, tmp_path / "over", {})
    env = {**os.environ, **env, VARIABLE: "postgresql://someone:word@127.0.0.1:12345/copy"}
    look = "import json; from django.conf import settings as s; print(json.dumps(s.DATABASES))"
    done = subprocess.run([sys.executable, "-c", look], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [found[name]["NAME"] for name in ("default", "job_logs", "reports")] == ["copy", "copy", "reports"]
    assert found["job_logs"]["PORT"] == "12345" and found["job_logs"]["USER"] == "someone"


def test_settings_that_call_themselves_by_their_file_are_found_by_the_name_that_django_was_given(
    tmp_path: Path,
) -> None:
    own = project(tmp_path, manage=MANAGE, site_settings=RENAMED, site=SETTINGS, reporting=REPORTING)
    (tmp_path / "site.py").write_text(SETTINGS + 'PLACE = os.environ.get("SHOP_PLACE")\n')
    found = inspect(own)
    assert found.settings == "site_settings" and "SHOP_PLACE" in found.environment


def test_a_project_that_configures_itself_without_a_settings_module_is_answered_for(tmp_path: Path) -> None:
    found = inspect(project(tmp_path, manage=CONFIGURED))
    assert found.settings == "" and "SHOP_WORD" in found.environment
