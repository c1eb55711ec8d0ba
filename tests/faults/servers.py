"""The private servers of the suite; nothing of them stays."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aftercommit.devstack.servers import Servers


@contextmanager
def private_servers() -> Iterator[tuple[Servers, Path]]:
    """Started servers, and a folder for logs."""
    folder = Path(tempfile.mkdtemp(prefix="aftercommit-faults-"))
    # Run as root, Postgres becomes another user, who must get in.
    folder.chmod(0o755)
    try:
        with Servers(folder, fsync=False) as servers:
            yield servers, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
