"""What gunicorn serves. Nothing here touches the database, so that a release can start before its migrations ran."""

import logging
import os

from django.core.wsgi import get_wsgi_application

from accounting import RELEASE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "accounting.settings")

application = get_wsgi_application()

logging.getLogger("accounting").info("release %s started, process %d", RELEASE, os.getpid())
