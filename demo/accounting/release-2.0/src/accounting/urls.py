"""All addresses of the site."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.staticfiles.views import serve
from django.urls import include, path

from accounting import views

admin.site.site_header = "Counting House administration"
admin.site.site_title = "Counting House"

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
    # The site has two small static files; they are served from here so that the demo needs no file server.
    path("static/<path:path>", login_not_required(serve), {"insecure": True}),
    path("", include("ledger.urls")),
]

handler500 = "accounting.views.server_error"
