"""What scenarios stand on: private servers, a migrated database to copy, the sizes, and the settings under test."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import asyncpg

from aftercommit.devstack.servers import Servers
from bench.child_process import CHECKOUT
from bench.installation import Installation, server_dsn
from bench.sizes import Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """``settings`` hold for every role of every installation. ``checkout`` has their code and their migrations: this
    one, or one of an earlier commit to compare with."""

    servers: Servers
    folder: Path
    sizes: Sizes
    settings: Mapping[str, str]
    checkout: Path = CHECKOUT

    def tuned(self, settings: Mapping[str, str]) -> Self:
        """For a scenario that changes ``settings``. Those that the run itself was given win over them."""
        return replace(self, settings={**settings, **self.settings})

    def of(self, checkout: Path) -> Self:
        return replace(self, checkout=checkout)

    def installation(self, **settings: str) -> Installation:
        """A new, empty one, with further settings."""
        return Installation(
            self.servers,
            self.folder,
            template=self._template,
            settings={**settings, **self.settings},
            checkout=self.checkout,
        )

    async def prepare(self) -> None:
        """Make the database that every installation is a copy of."""
        admin = await asyncpg.connect(server_dsn(self.servers))
        await admin.execute(f"CREATE DATABASE {self._template}")
        await admin.close()
        await asyncio.to_thread(self._migrate)

    @property
    def _template(self) -> str:
        return "bench_template" if self.checkout == CHECKOUT else "bench_template_before"

    def _migrate(self) -> None:
        environment = {**os.environ, **self.servers.environment(), "POSTGRES_DB": self._template}
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        subprocess.run(command, cwd=self.checkout, env=environment, check=True, timeout=60, capture_output=True)


@contextmanager
def private_servers() -> Iterator[tuple[Servers, Path]]:
    """Started servers, which write to disk as in production, and a folder for logs; nothing of them stays."""
    # Not /tmp, which may be memory: commits shall cost what they cost.
    folder = Path(tempfile.mkdtemp(prefix="aftercommit-bench-", dir="/var/tmp"))
    folder.chmod(0o755)  # run as root, Postgres becomes another user, who must get in
    try:
        with Servers(folder) as servers:
            yield servers, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
