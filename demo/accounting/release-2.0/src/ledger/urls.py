from django.urls import path

from ledger import views

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("entries/", views.entries, name="entries"),
    path("entries/new/", views.new_entry, name="new-entry"),
    path("entries/<uuid:reference>/", views.entry, name="entry"),
    path("chart/", views.chart, name="chart"),
]
