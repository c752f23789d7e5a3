from django.contrib import admin

from users.models import UserProfile


@admin.register(UserProfile)
class UserProfileAdmin(admin.ModelAdmin):
    list_display = ("full_name", "user", "department", "locale", "joined")
    list_filter = ("department",)
    search_fields = ("full_name", "user__username")
    autocomplete_fields = ("user",)
