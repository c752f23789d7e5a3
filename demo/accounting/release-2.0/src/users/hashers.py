"""Django's PBKDF2 with a number of rounds from the environment, so that a demo's many logins cost little."""

import os

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class TunablePBKDF2PasswordHasher(PBKDF2PasswordHasher):
    iterations = int(os.environ.get("ACCOUNTING_PASSWORD_ITERATIONS") or PBKDF2PasswordHasher.iterations)
