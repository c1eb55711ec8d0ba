"""Installing the servers through the system's own package tool, where the user may, without a question asked."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aftercommit.devstack.apt import POLICY, apt_install, half_installed
from aftercommit.devstack.binaries import POSTGRES_NEEDED, RABBITMQ_NEEDED, find_postgres, find_rabbitmq
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.package_runner import PackageRunner, sudo_prefix


@dataclass(frozen=True, slots=True)
class Package:
    """A server, what it is called by each package tool, and how to find it."""

    needed: str
    apt: str
    apt_parts: tuple[str, ...]
    """How the names of all Debian packages begin that belong to it."""
    brew: str
    find: Callable[[], object | None]

    def missing(self) -> bool:
        """Also when its programs are there, but their installation was cut short."""
        return self.find() is None or half_installed(self.apt_parts)


PACKAGES = (
    Package(POSTGRES_NEEDED, apt="postgresql", apt_parts=("postgresql",), brew="postgresql@17", find=find_postgres),
    Package(
        RABBITMQ_NEEDED,
        apt="rabbitmq-server",
        apt_parts=("rabbitmq", "erlang"),
        brew="rabbitmq",
        find=find_rabbitmq,
    ),
)


@dataclass(frozen=True, slots=True)
class Way:
    """How this machine gets packages. `prefix` is None where this user or machine cannot."""

    advice: str
    prefix: tuple[str, ...] | None
    install: Callable[[PackageRunner], bool]


def install_missing(packages: tuple[Package, ...] = PACKAGES) -> None:
    """Installs what is missing, all at once. Raises `DevstackError` with the command to run where this user or machine
    cannot, where it failed, and where it was interrupted. A second try begins where the first one ended."""
    missing = [package for package in packages if package.missing()]
    if not missing:
        return
    needed = " and ".join(package.needed for package in missing)
    way = _find_way(missing)
    if way.prefix is None:
        raise DevstackError(f"Missing: {needed}. To install: {way.advice}")
    print(f"Missing: {needed}. Installing: {way.advice}", file=sys.stderr, flush=True)
    with PackageRunner(way.prefix) as runner:
        installed = way.install(runner)
    if not installed:
        raise DevstackError(f"The installation failed. Needed: {needed}. To install: {way.advice}")
    for package in missing:
        if package.find() is None:
            raise DevstackError(f"Installed, but not found: {package.needed}. Put its programs on PATH.")


def _find_way(missing: Sequence[Package]) -> Way:
    apt = [package.apt for package in missing]
    brew = [package.brew for package in missing]
    if shutil.which("apt-get"):
        advice = f"sudo apt-get install {' '.join(apt)}"
        return Way(advice, sudo_prefix(), lambda runner: apt_install(runner, *apt, policy=POLICY))
    if shutil.which("brew"):
        advice = f"brew install {' '.join(brew)}"
        return Way(advice, (), lambda runner: runner.run("brew", "install", *brew).succeeded)
    advice = f"use this system's package tool (Debian: {' '.join(apt)}; Homebrew: {' '.join(brew)})"
    return Way(advice, None, lambda _: False)
