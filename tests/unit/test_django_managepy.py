"""What `manage.py` prints, turned into commands, errors and answers; no process is started."""

from __future__ import annotations

import json

import pytest

from safepoint.config import Application, Release
from safepoint.django.cache import Cleared, ClearedCache
from safepoint.django.managepy import Manage, applied, applying, explain, last_words, redirect
from safepoint.django.piped import package, source, unwrap
from safepoint.errors import CommandFailed, LockNotAvailable
from safepoint.hosts.command import Command, Result
from safepoint.hosts.here import Here
from safepoint.launch.verbs.prepare import planned_migrations
from safepoint.postgres.target import Target

RELEASE = Release(
    version="2",
    directory="release-2",
    manage=("python", "src/manage.py"),
    env={"DJANGO_SETTINGS_MODULE": "shop.settings", "PGOPTIONS": "-c search_path=shop"},
    start=("start",),
    stop=("stop",),
    upstream="127.0.0.1:1",
)
LOGIN = Target("db", 5432, "shop", "app", "s3cret")


def result(stdout: str = "", stderr: str = "", code: int = 1, *argv: str) -> Result:
    return Result(Command(("python", "manage.py", *(argv or ("migrate",)))), code, stdout, stderr, 1.0)


def test_the_command_is_the_plans_own_with_its_folder_and_a_redirection_wins() -> None:
    env, secrets = redirect(Application(url_env="DATABASE_URL"), LOGIN, lock_timeout=1.5)
    command = Manage(Here("here", None), RELEASE, env, secrets).command("migrate", "--noinput")  # type: ignore[arg-type]
    assert command.argv == ("python", "src/manage.py", "migrate", "--noinput")
    assert command.directory == "release-2"
    assert command.env["DJANGO_SETTINGS_MODULE"] == "shop.settings"
    endless = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    assert command.env["PGOPTIONS"] == f"-c default_transaction_read_only=off -c lock_timeout=1500 {endless}"
    assert command.secrets == {"DATABASE_URL": "postgresql://app:s3cret@db:5432/shop"}


def test_no_secret_is_shown() -> None:
    env, secrets = redirect(Application(url_env="DATABASE_URL"), LOGIN)
    manage = Manage(Here("here", None), RELEASE, env, secrets)  # type: ignore[arg-type]
    assert "s3cret" not in repr(manage) + repr(manage.command("check")) + manage.command("check").shown()


def test_without_a_variable_for_the_address_only_the_sessions_settings_are_given() -> None:
    env, secrets = redirect(Application(), LOGIN)
    assert (env, secrets) == ({"PGOPTIONS": "-c default_transaction_read_only=off"}, {})


OUTPUT = """Running migrations:
  Applying shop.0001_initial... OK
  Applying shop.0002_price...\
"""


def test_the_migration_that_was_begun_and_not_ended_is_known() -> None:
    assert applying(OUTPUT) == "shop.0002_price"
    assert applying(OUTPUT + " OK") is None
    assert applied(OUTPUT) == ("shop.0001_initial",)
    assert applied("") == () and applying("") is None


def test_what_a_migration_prints_does_not_hide_that_it_ended() -> None:
    whole = f"{OUTPUT}moved 5 rows\n OK\n  Applying shop.0003_index..."
    assert applied(whole) == ("shop.0001_initial", "shop.0002_price") and applying(whole) == "shop.0003_index"
    assert applied(f"{whole}it is OKAY so far\n")[-1] == "shop.0002_price"
    assert applied(f"{whole}made\n OK\n")[-1] == "shop.0003_index" and applying(f"{whole} OK\n") is None


TRACEBACK = """System check warning
Traceback (most recent call last):
  File "a.py", line 1, in execute
    return self.cursor.execute(sql)
           ^^^^^^^^^^^^^^^^^^^^^^^^
psycopg.errors.UndefinedColumn: column "x" does not exist
LINE 1: SELECT x
               ^

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "b.py", line 2, in <module>
    main()
django.db.utils.IntegrityError: could not create unique index "u"
DETAIL:  Key (name)=(a) is duplicated.
"""


def test_of_a_traceback_only_what_was_raised_is_kept_with_the_servers_detail() -> None:
    words = last_words(TRACEBACK)
    assert words == (
        'django.db.utils.IntegrityError: could not create unique index "u" / DETAIL:  Key (name)=(a) is duplicated.'
    )


def test_of_a_traceback_whose_beginning_was_cut_off_only_what_was_raised_is_shown() -> None:
    cut = TRACEBACK[TRACEBACK.rindex("Traceback (most recent call last)") :].partition("\n")[2]
    carets = "    ^^^^^^^^^^^^^\n"
    cut = cut.replace("    main()\n", "    main()\n    ^^^^^^\n")
    assert last_words(carets + cut) == last_words(TRACEBACK)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it said nothing"),
        ("CommandError: no such thing\n", "CommandError: no such thing"),
        ("Traceback (most recent call last):\n  File x\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("one\ntwo\nthree\nfour\n", "two / three / four"),
    ],
)
def test_what_was_said_last_is_kept_short(text: str, words: str) -> None:
    assert last_words(text) == words


def test_endless_words_are_cut() -> None:
    assert len(last_words("x" * 5000)) == 400


def test_a_failed_migration_is_named_in_message_subject_and_remedy() -> None:
    error = explain(result(OUTPUT, TRACEBACK))
    assert type(error) is CommandFailed
    assert error.subject == "shop.0002_price"
    assert "while it applied shop.0002_price: django.db.utils.IntegrityError" in error.message
    assert "Traceback" not in error.message and error.remedy is not None and "shop.0002_price" in error.remedy


def test_a_lock_timeout_is_told_apart() -> None:
    raised = "psycopg.errors.LockNotAvailable: canceling statement due to lock timeout"
    said = f"Traceback (most recent call last):\n  x\n{raised}"
    error = explain(result(OUTPUT, said))
    assert isinstance(error, LockNotAvailable) and error.subject == "shop.0002_price"


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("python: can't open file '/x/manage.py': [Errno 2]", "no manage.py at this path"),
        ("ModuleNotFoundError: No module named 'django'", "venv"),
        ("ModuleNotFoundError: No module named 'shop.settngs'", "DJANGO_SETTINGS_MODULE"),
        ("django.core.exceptions.ImproperlyConfigured: SECRET_KEY is not set", "`env` of this release"),
        ('FATAL:  database "shp" does not exist', "database's name"),
        ("psycopg.errors.ReadOnlySqlTransaction: cannot execute in a read-only transaction", "`options`"),
        ("must be owner of table shop_item", "owner's login"),
        ("Unknown command: 'clear_cache'", "INSTALLED_APPS"),
    ],
)
def test_each_known_failure_has_its_own_remedy(said: str, remedy: str) -> None:
    assert remedy in str(explain(result("", said)).remedy)


def test_a_program_in_the_command_line_is_not_repeated_in_the_error() -> None:
    error = explain(result("", "NameError: x", 1, "shell", "-c", "import json; " * 20))
    assert "import json" not in error.message


def test_the_answer_is_found_among_anything_that_is_printed() -> None:
    marker = "<<safepoint-1>>"
    reply = json.dumps({"answer": {"text": "caf\u00e9 \u2028 \n"}})
    noise = 'settings\n{"answer": {}}\n'
    assert unwrap(f"{noise}\n{marker}{reply}{marker}\n{noise}", marker) == {"answer": {"text": "café \u2028 \n"}}
    assert unwrap(noise, marker) is None
    assert unwrap(noise + marker, marker) is None


@pytest.mark.parametrize(("name", "parts"), [("project", ()), ("cache", ()), ("operations", ("tables",))])
def test_what_is_piped_is_ascii_and_holds_its_script_its_parts_and_parameters(
    name: str, parts: tuple[str, ...]
) -> None:
    data = json.loads(package({name: {"key": "é"}}, "m").decode("ascii"))
    given = {"script": source(name), "parts": {part: source(part) for part in parts}, "parameters": {"key": "é"}}
    assert data["scripts"] == {name: given}
    assert "def reply" in data["frame"] and data["marker"] == "m"


def cache(**changes: object) -> ClearedCache:
    common = {
        "alias": "default",
        "backend": "x.RedisCache",
        "held": True,
        "gone": True,
        "fallback": False,
        "error": None,
    }
    return ClearedCache(**{**common, **changes})  # type: ignore[arg-type]


def test_a_cache_is_only_called_cleared_when_its_key_was_there_and_is_gone() -> None:
    assert cache().verdict == "cleared"
    assert cache(gone=False).verdict == "kept"
    assert cache(held=False, gone=None).verdict == "unreachable"
    assert cache(backend="django.core.cache.backends.locmem.LocMemCache").verdict == "private"


def test_how_the_caches_were_cleared_is_said() -> None:
    cleared = Cleared(("clear_cache",), ("purge",), (cache(), cache(alias="b", fallback=True)), 0.5)
    assert cleared.ok
    assert cleared.summary() == (
        "manage.py clear_cache and Django's cache.clear() (no such command here: purge); proven empty: default, b"
    )
    assert not Cleared((), (), (cache(held=False),), 0.5).ok


def test_the_listed_migrations_are_found_whatever_an_app_is_called_and_prints_as_it_starts() -> None:
    said = "metrics.ready\nPlanned operations:\nShop.0002_fill\n    Raw SQL\nblog.0001_squashed_0003_x\n    Create\n"
    assert planned_migrations(said) == ["Shop.0002_fill", "blog.0001_squashed_0003_x"]
    assert planned_migrations("Planned operations:\n  No planned migration operations.\n") == []
