"""A small Django project that the tests write themselves: a login, a form, caches and pending migrations."""

from __future__ import annotations

import os
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from loaded_django import python
from psycopg import sql

from safepoint.config import Release
from safepoint.django.managepy import Manage
from safepoint.hosts.here import Here
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

SETTINGS = """
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

print("settings say hello on standard output")
if os.environ.get("SHOP_STARTS"):
    with open(os.environ["SHOP_STARTS"], "a") as starts:
        starts.write(f"{os.getpid()}\\n")
if os.environ.get("SHOP_EAGER"):
    import psycopg
    psycopg.connect(os.environ["DATABASE_URL"]).close()
BASE_DIR = Path(__file__).resolve().parent.parent
url = urlsplit(os.environ["DATABASE_URL"])
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = bool(os.environ.get("SHOP_SECURE"))
SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = os.environ.get("SHOP_HOSTS", "127.0.0.1").split(",")
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "shop"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
}]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
    "PASSWORD": unquote(url.password or ""), "HOST": url.hostname, "PORT": url.port,
}}
if os.environ.get("SHOP_POOL"):
    DATABASES["default"]["OPTIONS"] = {"pool": True}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "files": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": os.environ.get("SHOP_CACHE", str(BASE_DIR / "cache")),
    },
}
LOGIN_REDIRECT_URL = "/"
LOGIN_URL = "login"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
    "handlers": {"errors": {
        "class": "logging.FileHandler", "filename": str(BASE_DIR / "error.log"), "formatter": "plain", "level": "ERROR",
    }},
    "loggers": {"django": {"handlers": ["errors"]}},
}
"""

APP = {
    "manage.py": """
        import os, sys
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
    """,
    "shop/__init__.py": "",
    "shop/models.py": """
        from django.db import models

        class Item(models.Model):
            name = models.CharField(max_length=60)
            kind = models.CharField(max_length=10, choices=[("a", "Apples"), ("b", "Books")], default="a")
            urgent = models.BooleanField(default=False)
            price = models.IntegerField(default=0)
    """,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            initial = True
            operations = [migrations.CreateModel("Item", [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=60)),
                ("kind", models.CharField(max_length=10, choices=[("a", "Apples"), ("b", "Books")], default="a")),
                ("urgent", models.BooleanField(default=False)),
            ])]
    """,
    "shop/migrations/0002_price.py": """
        import os
        from django.db import migrations, models

        def fill(apps, schema_editor):
            if os.environ.get("SHOP_BREAKS"):
                raise ValueError("the price of item 7 is not a number")
            apps.get_model("shop", "Item").objects.update(price=1)
            if os.environ.get("SHOP_TOUCHES"):
                apps.get_model("shop", "Item").objects.filter(id__lte=3).update(kind="b")

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [
                migrations.AddField("item", "price", models.IntegerField(default=0)),
                migrations.RunPython(fill, migrations.RunPython.noop),
            ]
    """,
    "shop/migrations/0003_index.py": """
        from django.db import migrations

        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("shop", "0002_price")]
            operations = [migrations.SeparateDatabaseAndState(database_operations=[
                migrations.RunSQL("create index concurrently if not exists item_name on shop_item (name)"),
            ])]
    """,
    "shop/management/__init__.py": "",
    "shop/management/commands/__init__.py": "",
    "shop/management/commands/empty_files.py": """
        from django.core.cache import caches
        from django.core.management.base import BaseCommand

        class Command(BaseCommand):
            def handle(self, **options):
                caches["files"].clear()
                self.stdout.write("emptied")
    """,
    "shop/urls.py": """
        from django.contrib.auth.views import LoginView
        from django.urls import path
        from shop import views

        urlpatterns = [
            path("", views.home),
            path("health/", views.health),
            path("break/", views.broken),
            path("items/new/", views.new),
            path("items/once/", views.once),
            path("items/plain/", views.plain),
            path("accounts/login/", LoginView.as_view(template_name="login.html"), name="login"),
        ]
    """,
    "shop/views.py": """
        from django import forms
        from django.contrib.auth.decorators import login_required
        from django.http import HttpResponse
        from django.shortcuts import redirect, render
        from shop.models import Item

        ItemForm = forms.modelform_factory(Item, fields=["name", "kind", "urgent"])

        def home(request):
            names = [f"{item.name} ({item.get_kind_display()})" for item in Item.objects.only("name", "kind")]
            return render(request, "home.html", {"names": names})

        def health(request):
            return HttpResponse("ok")

        def broken(request):
            raise RuntimeError("broken on purpose")

        @login_required
        def new(request):
            form = ItemForm(request.POST or None)
            if request.method == "POST" and form.is_valid():
                Item.objects.create(**form.cleaned_data)
                return redirect("/")
            return render(request, "new.html", {"form": form})

        def once(request):
            if request.method == "GET" and request.session.get("seen"):
                return HttpResponse("this page was opened before", status=410)
            request.session["seen"] = True
            return new(request)

        @login_required
        def plain(request):
            # No word of what is wrong; after a success the form comes again, empty, or with what was saved.
            shown = {"name": request.GET.get("name", ""), "urgent": "name" in request.GET}
            if request.method == "POST" and request.POST["name"] == "refused":
                shown = request.POST
            elif request.method == "POST" and request.POST["name"] == "kept":
                return redirect("/items/plain/?name=kept")
            return render(request, "plain.html", {"name": shown.get("name", ""), "urgent": shown.get("urgent")})
    """,
    "shop/templates/plain.html": """
        <form method="post">{% csrf_token %}<input name="name" value="{{ name }}">
        <input type="checkbox" name="urgent"{% if urgent %} checked{% endif %}><button>Save</button></form>
    """,
    "shop/templates/home.html": "<title>Shop</title><ul>{% for n in names %}<li>{{ n }}</li>{% endfor %}</ul>",
    "shop/templates/login.html": """
        <form action="/search/"><input name="q"><button>Search</button></form>
        <form method="post">{% csrf_token %}{{ form }}<button type="submit">Log in</button></form>
    """,
    "shop/templates/new.html": """
        <form method="post">{% csrf_token %}{{ form }}<button type="submit" name="save" value="1">Save</button></form>
    """,
}


def write_site(folder: Path) -> Path:
    """Write the project into a folder; `manage.py` lies in its `src`."""
    for name, text in {**APP, "shop/settings.py": SETTINGS}.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return folder


def manage_of(folder: Path, target: Target, *, database_url: bool = True, **env: str) -> Manage:
    """The project's manage.py, pointed at a database."""
    release = Release(
        version="1",
        directory=str(folder),
        manage=(python(), "src/manage.py"),
        env=env,
        start=("true",),
        stop=("true",),
        upstream="127.0.0.1:1",
    )
    secrets = {"DATABASE_URL": target.url()} if database_url else {}
    return Manage(Here("here", folder), release, {}, secrets, str(folder))


@contextmanager
def site_database(server: Server) -> Iterator[Target]:
    """An empty database for a whole module of tests, dropped afterwards."""
    name = f"shop_{os.getpid()}_{time.monotonic_ns()}"
    with connect(server.target) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield server.target.on(name)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def running(folder: Path, target: Target, **env: str) -> Iterator[str]:
    """The site, answering on a free port of 127.0.0.1; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [python(), "src/manage.py", "runserver", f"127.0.0.1:{port}", "--noreload", "--skip-checks"],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": target.url(), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while not _answers(address):
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError("the test's site did not start")
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address + "/health/", trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False
