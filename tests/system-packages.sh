#!/bin/sh
# What the tests need beyond Python packages: sshd (commands over SSH), Chromium (the login checkpoint), age (restoring
# by hand), PostgreSQL 15 (the oldest version tested) and locales (money as Germans write it). As root on Debian or Ubuntu they are installed; elsewhere the tests
# that need one say so and are skipped by name.
set -eu

wanted=""
[ -x /usr/sbin/sshd ] || wanted="$wanted openssh-server"
command -v age >/dev/null 2>&1 || wanted="$wanted age"
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || wanted="$wanted chromium"
[ -x /usr/lib/postgresql/15/bin/postgres ] || wanted="$wanted postgresql-15"
[ -e /usr/share/i18n/locales/de_DE ] || [ -e /usr/share/i18n/locales/de_DE.gz ] || wanted="$wanted locales"
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed here (needs root and apt):$wanted; the tests that need it are skipped" >&2
    exit 0
fi

# No server of the system's own is started: the tests bring up theirs, on free ports of the loopback address.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq || true
for package in $wanted; do
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
        echo "could not be installed: $package; the tests that need it are skipped" >&2
done
