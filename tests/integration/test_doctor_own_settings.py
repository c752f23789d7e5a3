"""The doctor on an application that no variable leads to a copy, and whose program says which settings it uses."""

from __future__ import annotations

from pathlib import Path

from ready_shop import NOW, Shop, found

from safepoint.launch.doctor.doctor import rehearsal


def without_url_env(text: str) -> str:
    return text.replace('url_env = "DATABASE_URL"\n', "")


def test_one_that_does_not_use_settings_made_for_its_rehearsal_is_told_before_it(ready: Shop, tmp_path: Path) -> None:
    plan = ready.plan(tmp_path, without_url_env)
    assert found(tuple(rehearsal(plan, NOW)), "rehearsal", "gets settings").verdict == "ok"
    program = ready.folder / "src/manage.py"
    text = program.read_text()
    forced = text.replace(
        'os.environ.setdefault("DJANGO_SETTINGS_MODULE", ', "os.environ.update(DJANGO_SETTINGS_MODULE="
    )
    assert forced != text
    try:
        program.write_text(forced)
        told = found(tuple(rehearsal(plan, NOW)), "rehearsal", "does not use the settings")
    finally:
        program.write_text(text)
    assert told.verdict == "failure" and "application.url_env" in str(told.remedy)


def test_without_a_rehearsal_nothing_proves_the_way_back_of_one(ready: Shop, tmp_path: Path) -> None:
    def alone(text: str) -> str:
        return text + "[rehearsal]\nrequired = false\n"

    told = found(tuple(rehearsal(ready.plan(tmp_path, lambda text: alone(without_url_env(text))), NOW)), "wayback", "")
    assert told.verdict == "failure" and "cannot be proven" in told.message
    assert [one.verdict for one in rehearsal(ready.plan(tmp_path, alone), NOW)] == ["ok"]
