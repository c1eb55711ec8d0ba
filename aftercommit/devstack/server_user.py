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


def server_account(data: Path) -> Account:
    """Ourselves; for root whoever made `data`, before that the `postgres` user, or `nobody`.

    Ask after PostgreSQL was installed: its package brings the user.
    """
    if os.geteuid() != 0:
        return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())
    if data.exists():
        made_by = data.stat()
        return Account(name=str(made_by.st_uid), uid=made_by.st_uid, gid=made_by.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise DevstackError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`.")


def make_folder(wanted: Path, account: Account) -> Path:
    """`wanted`, made and owned by the account; `fallback_folder` where the account cannot reach it."""
    folder = server_folder(wanted)
    if folder == wanted:
        wanted.mkdir(parents=True, exist_ok=True)
        if not account.reaches(wanted):
            folder = fallback_folder(wanted)
    folder.mkdir(mode=0o700, exist_ok=True)
    account.own(folder)
    return folder


def server_folder(wanted: Path) -> Path:
    """Where `make_folder` made it; `wanted` when it did not yet."""
    fallback = fallback_folder(wanted)
    return fallback if fallback.exists() else wanted


def fallback_folder(wanted: Path) -> Path:
    """Only root needs one, so it is where only root makes folders."""
    digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    return Path(f"/var/lib/aftercommit-{digest}")
