"""What people and programs are told while the application is closed. Pure."""

from __future__ import annotations

from html import escape

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta http-equiv="refresh" content="%(seconds)d">
<title>Back soon</title>
<style>
  :root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6b7c; --ground: #f4f6f8; --card: #fff; --line: #2f6f8f; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8edf2; --soft: #9fb0c0; --ground: #12181f; --card: #1a222b; --line: #66b2d6; }
  }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground); color: var(--ink);
         font: 1.05rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
  main { box-sizing: border-box; width: min(34rem, 92vw); padding: 2.5rem; background: var(--card);
         border-top: 4px solid var(--line); border-radius: 8px; box-shadow: 0 8px 30px rgb(0 0 0 / 12%%); }
  h1 { margin: 0 0 .75rem; font-size: 1.6rem; line-height: 1.25; }
  p { margin: 0 0 .75rem; }
  p:last-child { margin: 0; color: var(--soft); font-size: .95rem; }
</style>
</head>
<body>
<main>
  <h1>We will be right back</h1>
  <p>%(reason)s</p>
  <p>Nothing that you saved is lost. This page tries again by itself every %(wait)s.</p>
</main>
</body>
</html>
"""


def as_html(reason: str, retry_after: int) -> str:
    """The maintenance page: self-contained, for light and dark screens, tries again by itself after `retry_after` s."""
    wait = f"{retry_after} seconds" if retry_after < 120 else f"{retry_after // 60} minutes"
    return _PAGE % {"seconds": max(retry_after, 1), "reason": escape(reason), "wait": wait}


def as_text(reason: str, retry_after: int) -> str:
    """The same for programs: one line."""
    return f"Closed for maintenance: {' '.join(reason.split())} Try again in {retry_after} s.\n"
