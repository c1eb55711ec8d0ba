"""The Docker Compose stack of a clean clone, driven as its users do: by ``docker compose`` and over the API's port."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from aftercommit.devstack.ports import free_port

CHECKOUT = Path(__file__).parents[2]
OWN_FILES = ("docker-compose.yml", "tests/compose/compose.yml")
COMMAND_SECONDS = 300
# A setting in this process's environment would win over the clone's .env.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name in ("PATH", "HOME") or name.startswith(("DOCKER_", "BUILD"))
}
PAGE = 1000


class Stack:
    """``folder`` becomes the clone. Its .env is .env.example with free ports and ``settings``."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.project = f"aftercommit-test-{uuid4().hex[:8]}"
        self._api = f"http://127.0.0.1:{settings.setdefault('API_PORT', str(free_port()))}"
        settings.setdefault("RABBITMQ_MANAGEMENT_PORT", str(free_port()))
        settings["AFTERCOMMIT_IMAGE"] = self.project
        copy_checkout(folder)
        write_env(folder, settings)

    def compose(self, *arguments: str, files: Iterable[str] = OWN_FILES, check: bool = True) -> str:
        """The output of ``docker compose``; a failure raises with it."""
        chosen = [word for file in files for word in ("-f", file)]
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, "--progress", "quiet", *chosen, *arguments],
            cwd=self.folder,
            env=ENVIRONMENT,
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *services: str, worker: int, files: Iterable[str] = OWN_FILES) -> None:
        """Returns once every container is healthy."""
        scale = ("--scale", "worker_high=1", "--scale", f"worker={worker}")
        self.compose("up", "-d", *scale, *services, files=files)
        self.until_healthy()

    def until_healthy(self, *, seconds: float = 180) -> None:
        def all_healthy() -> bool:
            return all(container["Health"] == "healthy" for container in self.containers())

        wait_until(all_healthy, seconds=seconds, what="every container is healthy")

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """The running containers, as ``docker compose ps`` tells of them."""
        lines = self.compose("ps", "--format", "json", *services).splitlines()
        return [json.loads(line) for line in lines if line]

    def ids(self, *services: str) -> list[str]:
        return [container["ID"] for container in self.containers(*services)]

    def inspect(self, *services: str) -> dict[str, Any]:
        """What Docker knows of each container by its name, also of those that have exited."""
        found = self.compose("ps", "-aq", *services).split()
        return {details["Name"]: details for details in json.loads(docker("inspect", *found))}

    def call(self, method: str, path: str, body: object | None = None, *, timeout: float = 70) -> Any:
        """The parsed answer. Raises OSError for an error's status or where nothing answers."""
        request = urllib.request.Request(
            self._api + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout) as response:
            content = response.read()
        return json.loads(content) if content else None

    def submit(self, count: int, *, type: str = "slow.sleep", **fields: Any) -> list[str]:
        """The ids of ``count`` committed tasks."""
        wanted = {"tasks": [{"type": type, **fields}] * count}
        return [task["id"] for task in self.call("POST", "/v1/tasks/batch", wanted)["tasks"]]

    def tasks(self, tag: str) -> dict[str, dict[str, Any]]:
        """All tasks with ``tag`` and their results, by id."""
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            page = self.call("GET", f"/v1/tasks?tag={tag}&include=result&limit={PAGE}{cursor}")
            found |= {task["id"]: task for task in page["tasks"]}
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def final(self, tag: str, *, seconds: float) -> dict[str, dict[str, Any]]:
        """All tasks with ``tag``, once every one is final."""
        wait_until(
            lambda: all(task["finished_at"] for task in self.tasks(tag).values()),
            seconds=seconds,
            what=f"every task of {tag} is final",
        )
        return self.tasks(tag)

    def show_logs(self) -> None:
        print(self.compose("ps", "-a", check=False))
        print(self.compose("logs", "--no-color", "--tail", "40", check=False))

    def remove(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "5", check=False)
        docker("image", "rm", "--force", self.project, check=False)


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """A condition that raises OSError does not hold yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)  # between two looks: containers and HTTP answers call nobody


def copy_checkout(folder: Path) -> None:
    """What a clone would have, as it stands in the working tree."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)


def write_env(folder: Path, settings: dict[str, str]) -> None:
    """``cp .env.example .env``, then some values changed."""
    kept = [
        line
        for line in (folder / ".env.example").read_text().splitlines()
        if line.partition("=")[0].strip() not in settings
    ]
    changed = [f"{name}={value}" for name, value in settings.items()]
    (folder / ".env").write_text("\n".join([*kept, *changed, ""]))
