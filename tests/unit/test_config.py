"""The plan file: every error names its line, its key, what was found and what was expected."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from least_plan import LEAST

from safepoint.config import Application, Moment, PlanFile, Release, format_bytes, format_duration, load, parse_duration
from safepoint.config.load import key_lines, parse
from safepoint.errors import ExitCode, PlanFileError


def read(text: str) -> PlanFile:
    return parse(text, Path("/plans/launch.toml"))


def refused(text: str) -> PlanFileError:
    with pytest.raises(PlanFileError) as caught:
        read(text)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.remedy
    return caught.value


def changed(old: str, new: str) -> str:
    assert old in LEAST
    return LEAST.replace(old, new, 1)


def test_a_good_plan_has_its_defaults_and_its_id() -> None:
    plan = read(LEAST)
    assert plan.launch_id == "shop-2.0-20260301"
    assert plan.state == Path("/plans/.safepoint")
    assert plan.timetable.prepare == Moment.parse("T-1 18:00")
    assert plan.stores[0].keep == timedelta(days=30)
    assert plan.host("here").kind == "here"


def test_nothing_of_a_plan_can_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read(LEAST).launch.application = "other"  # type: ignore[misc]


# What is changed, the line it is told at, and words of the message: the key, what was found, what was expected.
FAULTS = {
    "unknown key": ('user = "postgres"', 'usr = "postgres"', 8, ("database.usr", "unknown key", "known here", "user")),
    "missing key": ('user = "postgres"\n', "", 6, ("database.user", "required")),
    "wrong type": ('user = "postgres"', "user = 7", 8, ("database.user", "expected a valid string", "found 7")),
    "port out of range": (
        'user = "postgres"',
        'user = "postgres"\nport = 70000',
        9,
        ("database.port", "less than or equal to 65535", "found 70000"),
    ),
    "no such choice": ('kind = "caddy"', 'kind = "nginx"', 24, ("router", "'nginx'", "'caddy'", "'command'")),
    "bad name": ('application = "shop"', 'application = "Shop"', 2, ("launch.application", "pattern", "found 'Shop'")),
    "bad date": ("date = 2026-03-01", 'date = "soon"', 3, ("launch.date", "found 'soon'", "date")),
    "upstream that is a URL": (
        '"127.0.0.1:2"',
        '"http://127.0.0.1:2"',
        21,
        ("releases.new.upstream", "expected host:port", "found 'http://127.0.0.1:2'"),
    ),
    "bad zone": ('timezone = "Europe/Berlin"', 'timezone = "Berlin"', 4, ("launch.timezone", "'Berlin'", "IANA")),
    "zone that leads out": ('"Europe/Berlin"', '"../../etc/passwd"', 4, ("launch.timezone", "IANA")),
    "empty list": ('["shop"]', "[]", 9, ("database.application_roles", "at least 1 item")),
    "bad duration": (
        'user = "postgres"',
        'user = "postgres"\nlock_timeout = "5 seconds"',
        9,
        ("database.lock_timeout", "'5 seconds'", "such as '90s'"),
    ),
    "in a list of tables": ('url = "file:offsite"', "url = 7", 29, ("stores.0.url", "valid string", "found 7")),
    "unknown in a list of tables": (
        'url = "file:offsite"',
        'url = "file:b"\nkep = "30d"',
        30,
        ("stores.0.kep", "unknown key", "keep"),
    ),
    "unknown table": ("[[stores]]", "[watches]\n[[stores]]", 27, ("watches", "unknown key", "watch")),
    "unknown in a nested table": ('version = "2.0"', 'verson = "2.0"', 18, ("releases.new.verson", "known here")),
    "no regular expression": (
        "[[stores]]",
        "[checkpoints]\nerror_pattern = 'ERROR|(FATAL'\n[[stores]]",
        28,
        ("checkpoints.error_pattern", "'ERROR|(FATAL'", "unterminated subpattern at position 6"),
    ),
    "unknown below a choice": ('kind = "caddy"', 'kind = "caddy"\nretry = "5s"', 25, ("router.retry", "unknown key")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_line_key_found_and_expected(fault: str) -> None:
    old, new, line, words = FAULTS[fault]
    message = refused(changed(old, new)).message
    told = [part for part in message.splitlines() if part.startswith(f"launch.toml, line {line}: ")]
    assert told, message
    assert any(all(word in part for word in words) for part in told), message


def test_all_faults_are_told_at_once() -> None:
    error = refused(LEAST.replace("2026-03-01", '"soon"').replace('"Europe/Berlin"', '"Berlin"'))
    assert len(error.message.splitlines()) == 2
    assert error.remedy == "Correct these 2 keys in launch.toml; `safepoint settings` says what each takes."


def test_what_is_not_toml_names_the_line() -> None:
    assert "line 2" in refused('[launch]\napplication = shop"\n').message


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="no plan file") as caught:
        load(tmp_path / "launch.toml")
    assert "safepoint init" in str(caught.value.remedy)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "launch.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanFileError, match="cannot be read"):
        load(tmp_path / "launch.toml")


def test_a_host_that_is_not_there_is_named_with_those_that_are() -> None:
    message = refused(LEAST + '[application]\nhost = "app"\n[hosts.web]\nkind = "here"\n').message
    assert "application.host names the host 'app'" in message and "here, web" in message


def test_two_stores_of_one_name_are_refused() -> None:
    assert "same name" in refused(LEAST + '[[stores]]\nname = "offsite"\nurl = "s3://b"\n').message


def test_a_timetable_out_of_order_names_both_moments() -> None:
    message = refused(LEAST + '[timetable]\nstop = "T 09:20"\n').message
    assert "'stop' (T 09:20) is later than 'migrate' (T 09:15)" in message and "line 30" in message


@pytest.mark.parametrize("text", ["T 9:00", "T-1 24:00", "T 12:60", "tomorrow", "T-1", "18:00", "T +1 10:00"])
def test_a_moment_that_is_none_is_refused_with_its_line(text: str) -> None:
    message = refused(LEAST + f'[timetable]\nprepare = "{text}"\n').message
    assert "line 31: timetable.prepare" in message and repr(text) in message


BERLIN = ZoneInfo("Europe/Berlin")


def test_a_moment_in_the_gap_when_the_clocks_go_forward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2026-03-29 02:30 does not exist in Europe/Berlin"):
        Moment.parse("T 02:30").on(date(2026, 3, 29), BERLIN)
    with pytest.raises(ValueError, match="does not exist"):
        Moment.parse("T-1 02:00").on(date(2026, 3, 30), BERLIN)


def test_a_moment_that_stands_twice_when_the_clocks_go_back_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2026-10-25 02:30 stands twice in Europe/Berlin"):
        Moment.parse("T 02:30").on(date(2026, 10, 25), BERLIN)


@pytest.mark.parametrize(
    ("text", "day", "instant"),
    [
        ("T 01:59", date(2026, 3, 29), "2026-03-29T00:59"),
        ("T 03:00", date(2026, 3, 29), "2026-03-29T01:00"),
        ("T 01:59", date(2026, 10, 25), "2026-10-24T23:59"),
        ("T 03:00", date(2026, 10, 25), "2026-10-25T02:00"),
        ("T-1 18:00", date(2026, 3, 29), "2026-03-28T17:00"),
        ("T+3 12:00", date(2026, 10, 25), "2026-10-28T11:00"),
    ],
)
def test_moments_around_a_change_of_the_clocks_are_the_right_instants(text: str, day: date, instant: str) -> None:
    assert f"{Moment.parse(text).on(day, BERLIN).astimezone(UTC):%Y-%m-%dT%H:%M}" == instant


def test_a_gap_of_half_an_hour_is_seen_too() -> None:
    with pytest.raises(ValueError, match="does not exist"):
        Moment.parse("T 02:15").on(date(2026, 10, 4), ZoneInfo("Australia/Lord_Howe"))


@given(
    days=st.integers(-400, 400),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_a_moment_is_read_as_it_is_shown_and_stands_where_its_wall_clock_says(
    days: int, hour: int, minute: int, zone: str
) -> None:
    moment = Moment.parse(f"T{days:+d} {hour:02d}:{minute:02d}")
    assert Moment.parse(str(moment)) == moment
    try:
        instant = moment.on(date(2026, 6, 1), ZoneInfo(zone))
    except ValueError:
        naive = datetime.combine(date(2026, 6, 1) + timedelta(days=days), moment.at)
        offsets = {naive.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1)}
        assert len(offsets) == 2  # only where the clocks change is a moment refused
        return
    back = instant.astimezone(UTC).astimezone(ZoneInfo(zone))
    assert (back.date(), back.hour, back.minute) == (date(2026, 6, 1) + timedelta(days=days), hour, minute)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h 30m", 5400), ("500ms", 0.5), ("30d", 2592000), ("0s", 0), ("1.5h", 5400)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "10 minutes", "-5s", "5s later", "1h,30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_durations_and_sizes_are_shown_as_people_read_them() -> None:
    assert [format_duration(s) for s in (0.421, 12.34, 250, 7500, 86400 * 3)] == [
        "0.42 s",
        "12.3 s",
        "4 min 10 s",
        "2 h 05 min",
        "3 d",
    ]
    assert [format_bytes(b) for b in (10, 20480, 5 * 1024**3)] == ["10 bytes", "20 kB", "5120 MB"]


def test_lines_of_keys_are_known_in_tables_lists_and_dotted_keys() -> None:
    lines = key_lines('# x\n[a]\nb.c = 1\n"d e" = 2\n[[s]]\nn = 1\n[[s]]\nn = 2\n[a.f] # y\ng = 3\n')
    assert lines[("a", "b", "c")] == 3 and lines[("a", "d e")] == 4
    assert (lines[("s", 0, "n")], lines[("s", 1, "n")], lines[("a", "f", "g")]) == (6, 8, 10)


def test_a_release_whose_commands_leave_the_port_open_can_be_moved_to_another_one() -> None:
    def release(**more: object) -> Release:
        given = {"version": "2", "start": ("run", "127.0.0.1:{port}"), "stop": ("end", "{port}"), **more}
        return Release.model_validate({"upstream": "127.0.0.1:8002", **given})

    here = release()
    moved = here.at_port(9009)
    assert here.start == ("run", "127.0.0.1:8002") and here.stop == ("end", "8002")
    assert moved is not None and moved.start == ("run", "127.0.0.1:9009") and moved.upstream == "127.0.0.1:9009"
    assert moved.stop == ("end", "9009") and here.start == ("run", "127.0.0.1:8002")
    # One of both would end, or start, what is live.
    assert release(stop=("end",)).at_port(9009) is None and release(start=("run",)).at_port(9009) is None
    by_variable = release(start=("run",), stop=("end",), env={"PORT": "{port}"}).at_port(9009)
    assert by_variable is not None and by_variable.env == {"PORT": "9009"}


def test_a_rehearsal_cannot_be_led_to_another_database_than_its_copy() -> None:
    more = '[application]\nurl_env = "DATABASE_URL"\n[rehearsal.env]\nDATABASE_URL = "postgresql://live"\n'
    assert "rehearsal.env has 'DATABASE_URL'" in refused(LEAST + more).message


def test_an_application_is_led_by_one_variable_or_by_those_of_the_parts_that_are_named() -> None:
    led = read(
        LEAST + '[application.variables]\nhost = "DB_HOST"\nuser = "DB_USER"\npassword = "DB_PASSWORD"\n'
    ).application
    assert led.led_by == ("DB_HOST", "DB_USER", "DB_PASSWORD")
    assert (led.fixed, led.has_login) == (("port", "name"), True)
    assert (led.parts["user"], Application().has_login, Application(url_env="X").fixed) == ("DB_USER", False, ())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('url_env = "DATABASE_URL"\n[application.variables]\nhost = "DB_HOST"', "keep the one that the settings go by"),
        ("[application.variables]", "names no variable"),
        ('[application.variables]\nuser = "DB_USER"', "PGPASSWORD"),
        ('[application.variables]\nhost = "DB"\nname = "DB"', "DB is named for two parts"),
        ('[application.variables]\nhost = "DB_HOST"\n[rehearsal.env]\nDB_HOST = "live"', "rehearsal.env has 'DB_HOST'"),
    ],
)
def test_variables_by_which_nothing_could_be_led_are_refused(more: str, said: str) -> None:
    assert said in refused(f"{LEAST}[application]\n{more}\n").message


def test_another_server_for_the_twin_is_no_place_for_a_copy_and_is_left_as_it_was_entered() -> None:
    server = '[wayback.server]\nhost = "far"\nuser = "postgres"\n'
    found = read(LEAST + server).wayback.server
    assert found is not None and (found.host, found.port, found.maintenance) == ("far", 5432, "postgres")
    assert "leave out [wayback.server]" in str(refused(LEAST + '[wayback]\ntwin = "template"\n' + server))
    assert "belong together" in str(refused(LEAST + server + 'lead = ["point", "far"]\n'))


@pytest.mark.parametrize(
    ("section", "line", "told"),
    [
        ("[snapshot]", "keep = 30", "'30' is not a duration such as '90s', '10m', '1h 30m' or '30d'"),
        ("[canary]", "hold = 2.5", "is not a duration"),
        ("[watch]", "every = -1", "is not a duration"),
        ("[watch]", "duration = '99999999999999d'", "too long a time"),
        ('user = "postgres"', "lock_timeout = '0s'", "database.lock_timeout"),
        ('user = "postgres"', "lock_timeout = '0.4ms'", "database.lock_timeout"),
    ],
)
def test_a_time_without_a_unit_or_of_no_meaning_is_refused(section: str, line: str, told: str) -> None:
    """PostgreSQL takes a lock_timeout of 0 for no limit, and `keep = 30` was half a minute."""
    text = LEAST.replace(section, f"{section}\n{line}") if section in LEAST else f"{LEAST}\n{section}\n{line}\n"
    error = refused(text)
    assert told in error.message
    assert line.partition(" ")[0] in error.message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"http://127.0.0.1:3"', '"127.0.0.1:3"', "router.url: expected the address of a site"),
        (
            '"http://127.0.0.1:3"',
            '"http://127.0.0.1:99999"',
            "router.url: expected the address of a site",
        ),
        ('kind = "caddy"', 'kind = "caddy"\nadmin = "localhost:2019"', "router.admin: expected the address of a site"),
        (
            '"127.0.0.1:2"',
            '"127.0.0.1:2"\nhealth = "healthz"',
            "releases.new.health: expected the path of a page",
        ),
        ('start = ["true", "2.0"]', "start = []", "releases.new.start"),
        ('name = "shop"', 'name = ""', "database.name"),
        ('version = "2.0"', 'version = ""', "releases.new.version"),
        ('version = "2.0"', 'version = "release/2.0"', "name an id in launch.id"),
        ('version = "2.0"', 'version = "../../../x"', "name an id in launch.id"),
        ('version = "2.0"', f'version = "{"2" * 200}"', "name an id in launch.id"),
        ('"127.0.0.1:2"', '"127.0.0.1:1"\nstage = true', "give the new release another upstream"),
    ],
)
def test_what_would_only_fail_in_the_launch_is_refused_when_the_plan_is_read(old: str, new: str, told: str) -> None:
    assert told in refused(changed(old, new)).message


def test_odd_versions_are_launched_under_an_id_of_ones_own_and_a_slash_behind_the_sites_address_is_no_matter() -> None:
    text = changed('version = "2.0"', 'version = "release/2.0 RC1"')
    plan = read(text.replace("date =", 'id = "shop-2"\ndate =').replace("127.0.0.1:3", "127.0.0.1:3/"))
    assert (plan.launch_id, plan.router.url) == ("shop-2", "http://127.0.0.1:3")
    assert read(changed('version = "2.0"', 'version = "2.0-RC1"')).launch_id == "shop-2.0-RC1-20260301"
    assert read(changed('"127.0.0.1:2"', '"127.0.0.1:1"')).releases.new.upstream == "127.0.0.1:1"


@pytest.mark.parametrize(("day", "moment"), [("9999-12-31", "T+1 12:00"), ("2026-03-01", "T+9999999999 12:00")])
def test_a_moment_that_no_calendar_has_is_told_as_such(day: str, moment: str) -> None:
    with pytest.raises(ValueError, match="is no day of the calendar"):
        Moment.parse(moment).on(date.fromisoformat(day), ZoneInfo("Europe/Berlin"))
