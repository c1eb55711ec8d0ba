"""The user that PostgreSQL runs as, since it refuses root, and a folder that this user can reach."""

import hashlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from aftercommit.devstack.failure import DevstackError


class ProcessUser(TypedDict, total=False):
    """The arguments that make `subprocess` switch user; empty to stay who we are."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """The user of a server that refuses to run as root."""

    name: str
    uid: int
    gid: int

    def arguments(self) -> ProcessUser:
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def reaches(self, folder: Path) -> bool:
        """Whether this user may enter `folder`; a parent of mode 700 keeps it out."""
        command = ["sh", "-c", 'cd "$1"', "sh", str(folder)]
        return subprocess.run(command, check=False, capture_output=True, cwd="/", **self.arguments()).returncode == 0

    def own(self, folder: Path) -> None:
        os.chown(folder, self.uid, self.gid)


def server_account() -> Account:
    """Ourselves, or for root the `postgres` user, or `nobody`."""
    if os.geteuid() != 0:
        return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise DevstackError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`.")


def reachable_folder(wanted: Path, account: Account) -> Path:
    """`wanted`, made and owned by the account; a folder under /var/tmp where the account cannot reach it."""
    wanted.mkdir(parents=True, exist_ok=True)
    if account.reaches(wanted):
        folder = wanted
    else:
        folder = fallback_folder(wanted)
        folder.mkdir(mode=0o700, exist_ok=True)
        _refuse_foreign(folder, account)
    account.own(folder)
    return folder


def fallback_folder(wanted: Path) -> Path:
    digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    return Path(f"/var/tmp/aftercommit-{digest}")


def _refuse_foreign(folder: Path, account: Account) -> None:
    """/var/tmp is open to all: another user may have made this name first."""
    if folder.is_symlink() or folder.lstat().st_uid not in (0, account.uid):
        raise DevstackError(
            f"{folder} belongs to somebody else: remove it, or move the checkout out of a private home."
        )
