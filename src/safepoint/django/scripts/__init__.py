"""Scripts that run inside the application, piped into its `manage.py shell`. Safepoint itself never imports them."""
