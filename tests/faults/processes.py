"""The roles as processes of their own: started, signalled, and started again when they died."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.boundaries import STRUCK

CHECKOUT: Final = Path(__file__).parents[2]
CHECK_SECONDS: Final = 0.05
TAIL_BYTES: Final = 1_500


@dataclass(frozen=True, slots=True)
class Crash:
    """Where a process shall kill itself: at the ``nth`` call of one of ``tests.faults.boundaries``."""

    boundary: str
    nth: int


class RoleProcess:
    """``name`` is like ``worker-1``. What it prints goes into its log file, over all its lives.

    ``extra`` adds to the environment. While ``crash`` is set it says for each new life where that one ends.
    """

    def __init__(self, name: str, module: str, *, environment: Mapping[str, str], log_file: Path) -> None:
        self.name = name
        self.kind = name.rpartition("-")[0]
        self.log_file = log_file
        self.extra: Mapping[str, str] = {}
        self.crash: Callable[[], Crash] | None = None
        self.starts_again_at = 0.0
        self.killed = False
        self.wanted = False
        self._module = module
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._logged_before = 0

    def start(self) -> None:
        crash = self.crash() if self.crash else None
        self.killed = crash is not None  # then it dies by our hand too
        self.wanted = True
        wrapper = ["tests.faults.crashing", crash.boundary, str(crash.nth)] if crash else []
        with self.log_file.open("ab") as log:
            self._logged_before = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", *wrapper, self._module],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env={**self._environment, **self.extra, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Of its last life; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def send(self, number: signal.Signals) -> None:
        """To the role alone: what it started must do the right thing by itself. Harmless when it is dead."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def send_group(self, number: signal.Signals) -> None:
        """To the role and whatever it started, also when the role itself is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self, *, down_seconds: float = 0.0) -> None:
        """SIGKILL; the fleet starts it again after ``down_seconds``."""
        self.killed = True
        self.starts_again_at = time.monotonic() + down_seconds
        self.send(signal.SIGKILL)

    @property
    def stopped_in_order(self) -> bool:
        """Whether its last life ended as it should: with 0, by our SIGKILL, or by our SIGTERM before it had begun."""
        if self.exit_code == -signal.SIGTERM:
            return b'"event": "started"' not in self.log_file.read_bytes()[self._logged_before :]
        return self.exit_code == 0 or (self.killed and self.exit_code == -signal.SIGKILL)

    def tail(self) -> str:
        """The end of its log."""
        return self.log_file.read_bytes()[-TAIL_BYTES:].decode(errors="replace")


class Fleet:
    """All roles of one installation. ``flaws`` says which of them died on their own or did not stop."""

    def __init__(self, roles: Sequence[RoleProcess]) -> None:
        self.roles = tuple(roles)
        self.flaws: list[str] = []
        self.starts = 0

    def __iter__(self) -> Iterator[RoleProcess]:
        return iter(self.roles)

    def of(self, kind: str) -> list[RoleProcess]:
        """``api``, ``relay``, ``maintenance`` or ``worker``."""
        return [role for role in self.roles if role.kind == kind]

    def confirmed(self) -> int:
        """How many tasks and dead letters all relays sent, as far as they have told: none that was killed tells all."""
        lines = (line for role in self.roles for line in role.log_file.read_bytes().splitlines())
        return sum(json.loads(line).get("confirmed", 0) for line in lines if b'"relay_summary"' in line)

    @property
    def strikes(self) -> int:
        """How often a role reached the boundary that ``Crash`` names."""
        return sum(role.log_file.read_bytes().count(STRUCK) for role in self.roles)

    def start(self) -> None:
        for role in self.roles:
            role.start()

    async def keep(self) -> None:
        """Start again what died, until cancelled."""
        while True:
            for role in self.roles:
                due = time.monotonic() >= role.starts_again_at
                if role.wanted and role.exit_code is not None and due and self._died_by_our_hand(role):
                    role.start()
                    self.starts += 1
            await asyncio.sleep(CHECK_SECONDS)

    def _died_by_our_hand(self, role: RoleProcess) -> bool:
        """If not, that is noted, and the role starts a second later."""
        if role.killed:
            return True
        self.flaws.append(f"{role.name} ended on its own with {role.exit_code}; its log ends:\n{role.tail()}")
        role.killed = True  # from now on by our leave
        role.starts_again_at = time.monotonic() + 1
        return False

    async def restart(self, role: RoleProcess, *, seconds: float = 40.0) -> None:
        """As a deploy does: SIGTERM, wait, start. What does not exit 0 in time is a flaw."""
        await self.stop([role], seconds=seconds)
        role.start()

    async def stop(self, roles: Sequence[RoleProcess] | None = None, *, seconds: float = 40.0) -> None:
        """Orderly, side by side."""
        stopping = self.roles if roles is None else roles
        for role in stopping:
            role.wanted = False
            role.send_group(signal.SIGCONT)
            role.send(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(role.pid for role in stopping) and time.monotonic() < deadline:
            await asyncio.sleep(CHECK_SECONDS)
        for role in stopping:
            if role.pid is not None:
                self.flaws.append(f"{role.name} did not stop within {seconds:g} s; its log ends:\n{role.tail()}")
                role.send(signal.SIGKILL)
            elif not role.stopped_in_order:
                self.flaws.append(f"{role.name} stopped with {role.exit_code}; its log ends:\n{role.tail()}")

    def end(self) -> None:
        """Leave nothing behind, whatever happened before."""
        for role in self.roles:
            role.wanted = False
            role.send_group(signal.SIGKILL)
            if role._process is not None:
                role._process.wait(10)
