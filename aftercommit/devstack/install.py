"""Installing a server through the system's own package tool, where the user may, without a question asked."""

import os
import shutil
import subprocess
import sys

from aftercommit.devstack.failure import DevstackError

# Debian's packages start a service of their own on the default port unless policy-rc.d forbids it. An existing
# policy is the machine's business and stays.
_APT_SCRIPT = """
set -e
policy="$1"; shift
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\\nexit 101\\n' > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "$@"
"""
_POLICY = "/usr/sbin/policy-rc.d"


def install(name: str, *, apt: str, brew: str, needed: str) -> None:
    """Installs one package; raises `DevstackError` with the command to run when this user or machine cannot."""
    if shutil.which("apt-get"):
        command = _apt_command(apt)
        advice = f"sudo apt-get install {apt}"
    elif shutil.which("brew"):
        command = ["brew", "install", brew]
        advice = f"brew install {brew}"
    else:
        command = None
        advice = f"install it with this system's package tool (Debian: {apt}, Homebrew: {brew})"
    if command is None:
        raise DevstackError(f"{needed} is needed and was not found. To install it: {advice}")
    print(f"{name} was not found: installing it ({advice})", file=sys.stderr, flush=True)
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
        raise DevstackError(f"Installing {name} failed. {needed} is needed. To install it: {advice}")


def _apt_command(package: str) -> list[str] | None:
    script = ["sh", "-c", _APT_SCRIPT, "sh", _POLICY, package]
    if os.geteuid() == 0:
        return script
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        return [sudo, "-n", *script]
    return None
