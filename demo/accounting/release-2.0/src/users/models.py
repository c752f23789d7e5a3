"""Who keeps the books."""

from django.conf import settings
from django.db import models


class UserProfile(models.Model):
    """What the site knows about a user beyond the login."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    full_name = models.CharField(max_length=120)
    department = models.CharField(max_length=40, blank=True)
    locale = models.CharField(max_length=10, default="en-GB", help_text="How dates and amounts are written.")
    joined = models.DateField()

    def __str__(self) -> str:
        return self.full_name
