"""What the figures were measured on."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import asyncpg

from aftercommit.devstack.servers import Servers
from bench.child_process import CHECKOUT
from bench.installation import server_dsn

LIBRARIES: Final = ("aio-pika", "asyncpg", "fastapi", "sqlalchemy", "uvicorn", "uvloop")


def machine() -> dict[str, str]:
    """Processor, cores, memory, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {_distribution()}",
    }


async def versions(servers: Servers) -> dict[str, str]:
    """Of the servers and of what our processes run on."""
    connection = await asyncpg.connect(server_dsn(servers))
    postgres: str = await connection.fetchval("SHOW server_version")
    await connection.close()
    overview = servers.rabbitmq.management.call("GET", "/api/overview")
    return {
        "PostgreSQL": postgres,
        "RabbitMQ": f"{overview['rabbitmq_version']} on Erlang {overview['erlang_version']}",
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


async def postgres_settings(servers: Servers) -> dict[str, str]:
    """Those that decide about durability and speed."""
    connection = await asyncpg.connect(server_dsn(servers))
    names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
    found = {name: await connection.fetchval(f"SHOW {name}") for name in names}
    await connection.close()
    return found


def commit(checkout: Path = CHECKOUT) -> str:
    """Of the checkout, with a mark when it was changed since; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=checkout)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform()
