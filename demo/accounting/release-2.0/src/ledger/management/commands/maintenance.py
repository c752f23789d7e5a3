"""`manage.py maintenance on|off|status`: close and open the site."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Close the site (it answers 503 with Retry-After), open it again, or say which it is."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("state", choices=("on", "off", "status"))

    def handle(self, *args: Any, state: str, **options: Any) -> None:
        flag = settings.MAINTENANCE_FILE
        if state == "on":
            flag.touch()
        elif state == "off":
            flag.unlink(missing_ok=True)
        self.stdout.write(f"maintenance is {'on' if flag.exists() else 'off'}")
