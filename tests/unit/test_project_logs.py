"""Which of a project's log files its errors come to: the draft names the first, and the doctor looks for any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from safepoint.django.scripts import project

HANDLERS = {name: {"class": "logging.FileHandler", "filename": f"/log/{name}.log"} for name in ("audit", "site", "web")}


def found(monkeypatch: pytest.MonkeyPatch, **logging: Any) -> list[str]:
    monkeypatch.setattr(project, "settings", SimpleNamespace(LOGGING={"handlers": HANDLERS, **logging}))
    return list(project.error_logs())


def test_a_file_that_only_a_logger_of_something_else_writes_is_no_error_log(monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = {"": {"handlers": ["site"]}, "security.csp": {"handlers": ["audit"], "propagate": False}}
    assert found(monkeypatch, loggers=loggers) == ["/log/site.log"]
    assert found(monkeypatch, loggers={"audit": {"handlers": ["audit"]}}, root={"handlers": ["site"]}) == [
        "/log/site.log"
    ]


def test_what_pages_errors_come_to_stands_before_what_the_projects_own_do(monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = {"": {"handlers": ["site"]}, "django": {"handlers": ["web"], "propagate": False}}
    assert found(monkeypatch, loggers=loggers) == ["/log/web.log", "/log/site.log"]


def test_where_no_logger_says_so_each_file_may_be_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, loggers={"shop": {"handlers": ["web"]}}) == [
        f"/log/{one}.log" for one in ("audit", "site", "web")
    ]
