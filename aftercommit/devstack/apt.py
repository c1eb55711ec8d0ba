"""Installing Debian packages, also beside another package tool and after an installation that was cut short."""

import re
import shutil
import subprocess
import time

from aftercommit.devstack.package_runner import Finished, PackageRunner

LOCK_SECONDS = 600.0
"""How long another package tool, such as unattended-upgrades, may hold a lock."""

_RETRY_SECONDS = 2.0
_LOCKED = re.compile(r"Could not get lock|lock was locked by")

# Debian's packages start a service of their own on the default port unless policy-rc.d forbids it. An existing
# policy is the machine's business and stays, but one that an earlier try left behind is ours. It is void after an
# hour, in case nobody comes back to remove it.
_FORBID_SERVICES = """
set -e
[ ! -e "$1" ] || grep -q aftercommit "$1" || exit 0
cat > "$1.aftercommit" <<'END'
#!/bin/sh
# By aftercommit's devstack: the packages that it installs start no service. Void after an hour; remove it at will.
[ -n "$(find "$0" -mmin -60)" ] && exit 101
exit 0
END
chmod 755 "$1.aftercommit"
mv "$1.aftercommit" "$1"
"""
_ALLOW_SERVICES = 'rm -f "$1.aftercommit"; if grep -qs aftercommit "$1"; then rm -f "$1"; fi'
POLICY = "/usr/sbin/policy-rc.d"


def apt_install(runner: PackageRunner, *packages: str, policy: str) -> bool:
    """Whether all of them are installed now. Raises `DevstackError` when it was interrupted."""
    try:
        runner.run("sh", "-c", _FORBID_SERVICES, "sh", policy)
        # One unreachable mirror among many is no reason to stop: what follows decides.
        _patiently(runner, "apt-get", "-q", "update")
        install = ("apt-get", "-q", "install", "-y", "--no-install-recommends", *packages)
        installed = _patiently(runner, *install)
        if not installed.succeeded and "dpkg --configure -a" in installed.output:
            # An earlier installation was cut short. What dpkg alone cannot finish, apt-get then can.
            _patiently(runner, "dpkg", "--configure", "-a")
            installed = _patiently(runner, *install)
        return installed.succeeded
    finally:
        runner.run_anyway("sh", "-c", _ALLOW_SERVICES, "sh", policy)


def half_installed(prefixes: tuple[str, ...]) -> bool:
    """Whether dpkg was interrupted in one of the packages whose names begin so. False where there is no dpkg."""
    if not shutil.which("dpkg"):
        return False
    audit = subprocess.run(["dpkg", "--audit"], check=False, capture_output=True, text=True)
    return any(line.startswith(tuple(f" {prefix}" for prefix in prefixes)) for line in audit.stdout.splitlines())


def _patiently(runner: PackageRunner, *command: str) -> Finished:
    """Tries again for as long as somebody else holds one of apt's locks; apt-get itself waits for one of three."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        finished = runner.run(*command)
        if finished.succeeded or not _LOCKED.search(finished.output) or time.monotonic() > deadline:
            return finished
        time.sleep(_RETRY_SECONDS)  # nobody is told when a lock of apt becomes free
