"""A plan file with what one has to have, and no more: its commands do nothing, and nobody listens at its addresses."""

LEAST = """\
[launch]
application = "shop"
date = 2026-03-01
timezone = "Europe/Berlin"

[database]
name = "shop"
user = "postgres"
application_roles = ["shop"]

[releases.old]
version = "1.0"
start = ["true", "1.0"]
stop = ["true", "1.0"]
upstream = "127.0.0.1:1"

[releases.new]
version = "2.0"
start = ["true", "2.0"]
stop = ["true", "2.0"]
upstream = "127.0.0.1:2"

[router]
kind = "caddy"
url = "http://127.0.0.1:3"

[[stores]]
name = "offsite"
url = "file:offsite"
"""

SOMEDAY = LEAST.replace("2026-03-01", "2031-03-01").replace(
    'user = "postgres"', 'host = "127.0.0.1"\nport = {port}\nuser = "postgres"\npassword_env = "SHOP_PASSWORD"'
)
"""Years ahead, on a server of this machine: `port` is to be put in."""
