"""The application's side: its `manage.py`, what it says about itself, its migrations and its caches."""
