from django.contrib import admin

from users.models import UserProfile


@admin.register(UserProfile)
class UserProfileAdmin(admin.ModelAdmin):
    list_display = ("display_name", "user", "department", "phone", "joined")
    list_filter = ("department",)
    search_fields = ("display_name", "user__username")
    autocomplete_fields = ("user",)
