"""Who keeps the books."""

from django.conf import settings
from django.db import models


class UserProfile(models.Model):
    """What the site knows about a user beyond the login."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    display_name = models.CharField(max_length=120)
    department = models.CharField(max_length=120, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    joined = models.DateField()

    def __str__(self) -> str:
        return self.display_name
