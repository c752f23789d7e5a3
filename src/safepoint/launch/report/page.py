"""A page of its own in the project's style: no script, no network, light and dark, on screen and on paper. Pure."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files


def page(title: str, body: str) -> str:
    """A whole page with the project's style."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


@cache
def _style() -> str:
    return files("safepoint.launch.report").joinpath("page.css").read_text(encoding="utf-8")
