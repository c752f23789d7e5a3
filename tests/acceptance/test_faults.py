"""One fault after the other, each in a whole launch by the real commands: what it says, and that nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from scene import Scene, blocked, kill_at, patient, waits_for_the_lock
from stage import DEMO, Stage

from safepoint.errors import RouterError
from safepoint.launch.faults import VARIABLE
from safepoint.routers.embedded import EmbeddedCaddy
from safepoint.wayback.fence.login import migration_login


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, make_quick: Callable[..., Stage]) -> Iterator[Scene]:
    with make_quick(tmp_path_factory.mktemp("faults") / "stage", lines=500) as stage:
        scene = Scene(stage)
        try:
            yield scene
        finally:
            scene.close()


def new_release(text: str, old: str, new: str) -> str:
    """The plan with something else in the table of the new release."""
    head, tail = text.split("[releases.new]")
    assert old in tail
    return f"{head}[releases.new]{tail.replace(old, new, 1)}"


def old_release(text: str, old: str, new: str) -> str:
    """The plan with something else in the table of the old release."""
    head, tail = text.split("[releases.new]")
    assert old in head
    return f"{head.replace(old, new, 1)}[releases.new]{tail}"


# -- before the window ---------------------------------------------------------------------------------------------

MANAGE = 'manage = ["python", "src/manage.py"]'
BEFORE = {
    "manage.py missing": (
        lambda text: new_release(text, MANAGE, 'manage = ["python", "src/no-such.py"]'),
        "src/no-such.py",
    ),
    "manage.py fails": (
        lambda text: new_release(text, MANAGE, f'{MANAGE}\nenv = {{ DJANGO_SETTINGS_MODULE = "no_such_settings" }}'),
        "no_such_settings",
    ),
    "store cannot be written": (
        lambda text: text.replace('url = "file:', 'url = "file:/proc/version/'),
        "/proc/version",
    ),
    "the new release does not come up": (
        lambda text: new_release(text, 'start = ["python", ', 'start_timeout = "4s"\nstart = ["true", '),
        "2.0 was started, and nothing answers",
    ),
    "the new release comes up, and its start command fails": (
        lambda text: new_release(text, 'start = ["python", ', """start = ["sh", "-c", 'python "$@"; exit 1', "sh", """),
        "take `stage` out of [releases.new]",
    ),
}


@pytest.mark.parametrize("fault", BEFORE)
def test_a_fault_before_the_window_ends_the_launch_with_the_site_untouched(scene: Scene, fault: str) -> None:
    change, told = BEFORE[fault]
    scene.new_launch(change)
    ended = scene.run("launch", "--now", "--plain")
    assert ended.code in (1, 3), ended.text
    assert told in ended.text
    assert "safepoint: The launch of accounting 2.0 failed; 1.0 was not touched." in ended.text
    assert "1.0 serves everyone" in ended.text
    assert "next:" in ended.text
    assert scene.release() == "1.0"
    assert "stop-traffic" not in scene.done()
    assert scene.left() == []
    standing = scene.status()
    assert standing["launch"]["status"] == "failed"
    assert standing["standing"]["next"]


def test_a_release_that_could_not_be_staged_is_not_where_the_plan_file_says_so_by_now(scene: Scene) -> None:
    change, told = BEFORE["the new release comes up, and its start command fails"]
    scene.new_launch(lambda text: change(text) + '\n[gates]\nstop = "person"\n')
    assert told in scene.run("launch", "--now", "--plain").text
    path = scene.stage.plan_path
    path.write_text(path.read_text().replace("stage = true", "stage = false"))
    waits = scene.run("launch", "--now", "--plain", "--no-wait")
    assert waits.code == 4 and "2.0 is not staged any more" in waits.text, waits.text
    assert not scene.new_answers()
    assert scene.run("abort").code == 0 and scene.left() == []


@contextmanager
def only_named_roles_let_in(scene: Scene) -> Iterator[None]:
    """As on a server whose pg_hba.conf names the roles that it knows: the migration's is not among them."""
    rules = scene.stage.server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all /^safepoint_migrate_ all reject\n{before}")
    scene.ask("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        rules.write_text(before)
        scene.ask("SELECT pg_reload_conf()")


def test_a_server_that_lets_only_named_roles_in_is_found_before_the_window(scene: Scene) -> None:
    scene.new_launch()
    with only_named_roles_let_in(scene):
        ended = scene.run("launch", "--now", "--plain")
    assert ended.code == 1 and "pg_hba.conf" in ended.text, ended.text
    assert scene.release() == "1.0" and scene.left() == []
    assert "stop-traffic" not in {entry.step for entry in scene.entries}


def test_the_migrations_login_of_a_conductor_that_was_killed_while_it_tried_it_is_removed_by_an_abort(
    scene: Scene,
) -> None:
    scene.new_launch()
    kill_at(scene.stage, "migrate-plan:begun", "launch", "--now")
    login = migration_login(scene.stage.server.target.on("accounting"), scene.stage.plan.launch_id, "accounting")
    assert scene.left() != [] and login.password
    assert scene.run("abort").code == 0
    assert scene.release() == "1.0" and scene.left() == []


@pytest.mark.slow
def test_a_migration_that_ran_before_the_window_is_a_no_go(scene: Scene) -> None:
    scene.new_launch()
    kill_at(scene.stage, "stage-new:recorded", "launch", "--now")
    # As a command does that starts the new release and migrates; only the record counts here.
    early = "INSERT INTO django_migrations (app, name, applied) VALUES ('ledger', '0004_tags', now()) RETURNING id"
    scene.stage.query(early)
    try:
        ended = scene.run("launch", "--now", "--plain")
    finally:
        scene.stage.query("DELETE FROM django_migrations WHERE name = '0004_tags' RETURNING id")
    assert ended.code == 3 and "ledger.0004_tags ran since" in ended.text, ended.text
    assert scene.release() == "1.0" and scene.left() == []
    assert "stop-traffic" not in {entry.step for entry in scene.entries}


# -- in the window -------------------------------------------------------------------------------------------------


def failing_half_way(folder: Path) -> Path:
    """Release 2.0 with one more migration, not atomic, that raises after it has changed something."""
    release = folder / "release-broken"
    shutil.copytree(DEMO / "accounting" / "release-2.0", release, ignore=shutil.ignore_patterns("__pycache__"))
    (release / "src/ledger/migrations/0008_half_way.py").write_text(
        "from django.db import migrations\n"
        "def stop(apps, schema_editor):\n"
        "    raise RuntimeError('the migration stops half-way')\n"
        "class Migration(migrations.Migration):\n"
        "    atomic = False\n"
        "    dependencies = [('ledger', '0007_posting_history')]\n"
        "    operations = [migrations.RunSQL('CREATE TABLE left_half_way (id int)'), migrations.RunPython(stop)]\n"
    )
    return release


def half_way(scene: Scene) -> Callable[[str], str]:
    release = failing_half_way(scene.stage.folder)
    return lambda text: new_release(text, f'directory = "{DEMO}/accounting/release-2.0"', f'directory = "{release}"')


def unhealthy(_scene: Scene) -> Callable[[str], str]:
    def change(text: str) -> str:
        text = new_release(text, 'health = "/healthz"', 'health = "/nowhere"')
        return new_release(text, "[router]", "[router]").replace("stage = true", 'stage = true\nstart_timeout = "12s"')

    return change


def unstoppable(_scene: Scene) -> Callable[[str], str]:
    return lambda text: old_release(text, 'stop = ["python", ', 'stop = ["false", ')


WINDOW = {
    "a migration raises half-way": (half_way, "the migration stops half-way", "migrate"),
    "the new release is not healthy": (unhealthy, "its health page does not answer 200", "start-new"),
    "the old release cannot be stopped": (unstoppable, "1.0 could not be stopped", "old-gone"),
}


@pytest.mark.slow  # a migration that raises in the window is in test_launch, a release that does not come up above
@pytest.mark.parametrize("fault", WINDOW)
def test_a_fault_in_the_window_rolls_back_by_itself_and_says_why(scene: Scene, fault: str) -> None:
    change, told, step = WINDOW[fault]
    scene.new_launch(change(scene))
    ended = scene.run("launch", "--now", "--plain")
    assert ended.code == 5, ended.text
    assert told in ended.text
    assert "accounting was rolled back to 1.0" in ended.text
    failed = [entry for entry in scene.entries if entry.kind == "step.failed"]
    assert [entry.step for entry in failed] == [step]
    assert scene.release() == "1.0"
    assert scene.left() == []
    assert scene.stage.query("SELECT 1 FROM pg_class WHERE relname = 'left_half_way'") == []
    standing = scene.status()
    assert standing["launch"]["status"] == "rolled back"
    assert told in standing["launch"]["reason"]


def test_a_router_that_is_away_on_the_way_back_is_waited_for_and_the_site_is_opened(scene: Scene) -> None:
    """A restart of it takes seconds: it was asked about at once, and the site stayed closed until somebody answered."""
    scene.new_launch(lambda text: text + '\n[gates]\nstop = "person"\n')
    live = scene.conduct("launch", "--now")
    live.until("ask", "gate-stop")
    caddy = next(pid for pid, argv in commands() if "caddy" in argv and str(scene.stage.folder) in argv)
    os.kill(caddy, signal.SIGKILL)
    assert scene.run("go").code == 0
    live.until("waits", "undo-stop-traffic")
    (running,) = scene.status()["running"]
    assert running["waits"].startswith("the router does not answer (The router does not answer properly")
    router = scene.stage.plan.router
    ports = (int(router.url.rsplit(":", 1)[1]), int(router.admin.rsplit(":", 1)[1]))  # type: ignore[union-attr]
    scene.keep(started(EmbeddedCaddy(scene.stage.folder / "caddy-again", *ports)))
    ended = live.end()
    assert ended.code == 5, ended.text
    assert "undo-stop-traffic" not in [entry.step for entry in scene.entries if entry.kind == "ask"]
    assert scene.release() == "1.0"
    assert scene.left() == []
    assert scene.status()["launch"]["status"] == "aborted"


def started(caddy: EmbeddedCaddy) -> EmbeddedCaddy:
    """Once the ports of the one that was killed are free."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return caddy.start()
        except RouterError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def commands() -> Iterator[tuple[int, str]]:
    """Process ids and command lines."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue


# -- the conductor's own disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A small disk of its own for the state folder."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a small disk is mounted")
    folder = Path(tempfile.mkdtemp(prefix="safepoint-small-disk-"))
    folder.chmod(0o711)
    argv = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


def fill(file: Path) -> None:
    """Take all the room there is on a disk of 200 MB."""
    with file.open("wb", buffering=0) as out:
        for size in (65_536, 1):
            with suppress(OSError):  # that is what it is for
                for _ in range(4_096):
                    out.write(b"x" * size)


def test_a_disk_that_fills_up_in_the_window_stops_the_conductor_and_the_way_back_stays_open(
    scene: Scene, small_disk: Path
) -> None:
    state = f'state = "{scene.stage.folder}/state"'
    scene.new_launch(lambda text: patient(text).replace(state, f'state = "{small_disk}"'))
    assert scene.stage.plan.state == small_disk
    killed = scene.run("launch", "--now", "--plain", env={VARIABLE: "prove-quiet:recorded"})
    assert killed.code == -signal.SIGKILL, killed.text
    with blocked(scene):
        live = scene.conduct("launch")
        live.until("step.begun", "migrate")
        waits_for_the_lock(scene)
        fill(small_disk / "full")
    stopped = live.end()
    assert stopped.code == 1, stopped.text
    assert "No space left on device" in stopped.text
    assert "Make room there" in stopped.text
    # In an empty state folder `abort` would say that the launch has not begun.
    assert "name another place" not in stopped.text
    assert "Nobody: the site has been closed" in stopped.text
    for words in (("launch", "--plain"), ("abort", "--plain"), ("abort", "--json")):
        refused = scene.run(*words)
        assert refused.code == 1, refused.text
        assert "No space left" in refused.text
        assert "name another place" not in refused.text
    assert scene.status()["launch"]["status"] == "running"
    (small_disk / "full").unlink()
    ended = scene.run("abort", "--plain")
    assert ended.code == 0, ended.text
    assert scene.release() == "1.0"
    assert scene.left() == []


# -- the plan file -------------------------------------------------------------------------------------------------


def test_a_plan_file_that_is_broken_while_the_site_is_closed_takes_nobody_s_way_back_away(scene: Scene) -> None:
    """A colleague saves a half-edited file at the worst moment: every command was refused, `abort` as well."""
    scene.new_launch()
    killed = scene.run("launch", "--now", "--plain", env={VARIABLE: "migrate:recorded"})
    assert killed.code == -signal.SIGKILL, killed.text
    path = scene.stage.plan_path
    text = path.read_text()
    path.write_text(text.replace("[database]", "[database"))
    refused = scene.run("launch", "--plain")
    assert refused.code == 2 and "`safepoint rollback" in refused.text and "plan-read.toml" in refused.text
    standing = scene.run("status")
    assert standing.code == 0 and "CANNOT BE USED as it is now" in standing.text and "line" in standing.text
    assert scene.release() is None
    taken = scene.run("abort", "--plain")
    assert taken.code == 0, taken.text
    assert "CANNOT BE USED as it is now" in taken.text
    path.write_text(text)
    assert scene.release() == "1.0" and scene.left() == []
    assert scene.status()["launch"]["status"] == "rolled back"
