"""Pages that belong to no app: health and errors."""

from __future__ import annotations

import sys

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import Error, InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from accounting import RELEASE
from accounting.middleware import closed
from ledger.models import JournalEntry

_READ_ONLY = "25006"  # read_only_sql_transaction; PostgreSQL's manual, appendix A


@login_not_required
@never_cache
def healthz(_request: HttpRequest) -> JsonResponse:
    """Say whether this release can work with its database as it stands: 200, or 503 with the reason."""
    answer = {
        "status": "ok",
        "release": RELEASE,
        "database": connection.settings_dict["NAME"],
        "maintenance": settings.MAINTENANCE_FILE.exists(),
    }
    try:
        # The model's own columns, not SELECT 1: a schema of another release must not look healthy.
        JournalEntry.objects.order_by("-pk").first()
    except Error as error:
        connection.close()
        answer |= {"status": "unavailable", "reason": str(error).splitlines()[0]}
        return JsonResponse(answer, status=503)
    return JsonResponse(answer)


@login_not_required
def server_error(request: HttpRequest) -> HttpResponse:
    """Error page; where the database is away or takes no writes it is the maintenance page with a 503 instead.

    Django calls this while the exception is being handled, and has logged it.
    """
    error = sys.exc_info()[1]
    sqlstate = getattr(error.__cause__, "sqlstate", None) if error else None
    if isinstance(error, OperationalError | InterfaceError) or sqlstate == _READ_ONLY:
        return closed(request, retry_after=2)
    return render(request, "500.html", {"release": RELEASE}, status=500)
