"""Settings of the accounting site. Everything that differs between machines comes from the environment:

DATABASE_URL                    postgresql://user:password@host:port/name (required)
SECRET_KEY                      Django's secret (required; the same for both releases, or sessions end)
ALLOWED_HOSTS                   host names, separated by commas (127.0.0.1,localhost)
CSRF_TRUSTED_ORIGINS            origins such as https://books.example.com, separated by commas
ACCOUNTING_STATE                folder for what follows (var/ beside src/)
ACCOUNTING_CACHE_DIR            folder of the cache; all processes share it (STATE/cache)
ACCOUNTING_ERROR_LOG            the error log (STATE/error.log)
ACCOUNTING_MAINTENANCE_FILE     while this file exists the site answers 503 (STATE/maintenance)
ACCOUNTING_HTTPS                1 where a proxy ends TLS: cookies are sent over https only
ACCOUNTING_PASSWORD_ITERATIONS  PBKDF2 rounds; Django's own default unless a demo wants fast logins
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from accounting import RELEASE, database_url


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ImproperlyConfigured(f"The environment variable {name} is not set.")
    return value


def _words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def _path(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default).resolve()


def unexpected(record: logging.LogRecord) -> bool:
    """Leave out the 503 answers that the site gives on purpose (maintenance, health); Django logs each as an error."""
    return getattr(record, "status_code", None) != 503 or record.exc_info is not None


BASE_DIR = Path(__file__).resolve().parent.parent
STATE = _path("ACCOUNTING_STATE", BASE_DIR.parent / "var")
ERROR_LOG = _path("ACCOUNTING_ERROR_LOG", STATE / "error.log")
CACHE_DIR = _path("ACCOUNTING_CACHE_DIR", STATE / "cache")
MAINTENANCE_FILE = _path("ACCOUNTING_MAINTENANCE_FILE", STATE / "maintenance")
for folder in (ERROR_LOG.parent, CACHE_DIR, MAINTENANCE_FILE.parent):
    folder.mkdir(parents=True, exist_ok=True)

SECRET_KEY = _required("SECRET_KEY")
DEBUG = False
ALLOWED_HOSTS = _words("ALLOWED_HOSTS", "127.0.0.1,localhost")
CSRF_TRUSTED_ORIGINS = _words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "users",
    "ledger",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django_extensions",  # brings `clear_cache`
]

MIDDLEWARE = [
    "accounting.middleware.release_header",
    "accounting.middleware.maintenance",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "accounting.urls"
WSGI_APPLICATION = "accounting.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounting.middleware.release_context",
            ]
        },
    }
]

# Connections are kept for a minute and looked at before each request: a session that an administrator ended
# (or a database that was swapped) costs a reconnect, not a failed request.
DATABASES = {
    "default": {
        **database_url.parse(_required("DATABASE_URL")),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
DATABASES["default"]["OPTIONS"].setdefault("application_name", f"accounting {RELEASE}")
DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", "5")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A cache of files: shared by all workers, and `manage.py clear_cache` from another process really clears it.
# The prefix keeps the releases apart, since they cache rows of different shapes.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": CACHE_DIR,
        "KEY_PREFIX": f"accounting-{RELEASE}",
        "TIMEOUT": 60,
    }
}

PASSWORD_HASHERS = ["users.hashers.TunablePBKDF2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"

# The names of these cookies are the site's own: other sites on the same host (127.0.0.1 in the demo) keep theirs.
SESSION_COOKIE_NAME = "accounting_session"
CSRF_COOKIE_NAME = "accounting_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = os.environ.get("ACCOUNTING_HTTPS") == "1"
if SESSION_COOKIE_SECURE:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": f"%(asctime)s %(levelname)s release-{RELEASE} %(name)s: %(message)s"},
    },
    "filters": {
        "unexpected": {"()": "django.utils.log.CallbackFilter", "callback": unexpected},
    },
    "handlers": {
        "error_log": {
            "class": "logging.handlers.WatchedFileHandler",
            "filename": ERROR_LOG,
            "filters": ["unexpected"],
            "formatter": "line",
        },
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["unexpected"]},
    },
    "loggers": {
        "accounting": {"handlers": ["error_log", "console"], "level": "INFO", "propagate": False},
        "django": {"handlers": ["error_log", "console"], "level": "ERROR", "propagate": False},
    },
}
