"""What `safepoint settings` says is what the models do, and the page in docs is what it says."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config.reference import json_schema, tables
from safepoint.errors import PlanFileError
from safepoint.launch.draft import template

ROOT = Path(__file__).parents[2]


def said(*words: str) -> str:
    result = CliRunner().invoke(app, ["settings", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_page_is_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == said("--markdown"), "write it anew: safepoint settings --markdown > docs/settings.md"


def test_each_key_has_a_meaning_of_its_own_and_a_default_that_toml_reads() -> None:
    found = [(table.header, one) for table in tables() for one in table.settings]
    assert len(found) > 100
    for header, one in found:
        assert one.meaning.endswith((".", "...")) and len(one.meaning) > 5, (header, one.key)
        assert one.takes and not (one.required and one.default), (header, one.key)
        if one.default is not None:
            tomllib.loads(f"{one.key} = {one.default}")


@pytest.mark.parametrize("file", ["demo/launch.toml", "the draft of init"])
def test_every_key_that_is_written_there_is_known_here(file: str) -> None:
    text = template() if file.startswith("the") else (ROOT / file).read_text()
    headers = [table.header for table in tables()]
    written = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("[")]
    assert written
    free = ("rehearsal.env", "checkpoints.login.fields", "wayback.tables.")  # whose keys are the user's own
    unknown = [one for one in written if one not in headers and not one.strip("[]").startswith(free)]
    assert unknown == []


def test_a_default_that_is_written_out_changes_nothing() -> None:
    from safepoint.config.load import parse

    path = ROOT / "demo" / "launch.toml"
    plan = parse(path.read_text(), path)
    for name in ("database", "application", "snapshot", "cache", "canary", "watch", "checkpoints", "gates", "wayback"):
        model = type(getattr(plan, name))
        table = next(one for one in tables() if one.header == f"[{name}]")
        lines = [f"{one.key} = {one.default}" for one in table.settings if one.default is not None]
        needed = {"name": "x", "user": "x", "application_roles": ["x"]} if name == "database" else {}
        assert model.model_validate({**needed, **tomllib.loads("\n".join(lines))}) == model.model_validate(needed), name


def test_one_table_one_key_and_what_is_not_there() -> None:
    assert said("wayback").startswith("[wayback]") and "[wayback.server]" in said("[wayback]")
    assert said("snapshot.max_age").count("max_age: duration") == 1
    assert "keep: " not in said("snapshot.max_age")
    assert said("hosts").count("[hosts.NAME]") == 3
    with pytest.raises(PlanFileError, match="no table and no key 'snapshots'"):
        said("snapshots")


def test_the_json_schema_has_all_meanings() -> None:
    schema = json.loads(said("--json"))
    assert schema == json.loads(json.dumps(json_schema()))
    assert schema["$defs"]["SnapshotSettings"]["properties"]["max_age"]["default"] == "2h"
    for name, part in schema["$defs"].items():
        for key, one in part["properties"].items():
            assert key == "kind" or "$ref" in json.dumps(one) or one.get("description"), (name, key)
