"""What every answer of the site has: the release that gave it, and a way to close for maintenance."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounting import RELEASE

View = Callable[[HttpRequest], HttpResponse]

# These answer during maintenance too: whoever watches the site must see that it lives, and the page needs its style.
_ALWAYS_OPEN = ("/healthz", "/static/")


def release_header(get_response: View) -> View:
    """Say in `X-Release` which release answered."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Release"] = RELEASE
        return response

    return middleware


def maintenance(get_response: View) -> View:
    """Answer 503 while the maintenance file exists (`manage.py maintenance on`)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if settings.MAINTENANCE_FILE.exists() and not request.path.startswith(_ALWAYS_OPEN):
            return closed(request, retry_after=60)
        return get_response(request)

    return middleware


def closed(request: HttpRequest, *, retry_after: int) -> HttpResponse:
    """The maintenance page. It needs no session and no database."""
    response = render(request, "503.html", {"release": RELEASE}, status=503, using=None)
    response["Retry-After"] = str(retry_after)
    response["Cache-Control"] = "no-store"
    return response


def release_context(_request: HttpRequest) -> dict[str, str]:
    """What the footer shows."""
    return {"release": RELEASE, "database_name": connection.settings_dict["NAME"]}
