"""The application side: running `manage.py`, and asking a project about itself."""
