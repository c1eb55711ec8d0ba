"""The processes of one Aftercommit: what a deployment would run as separate services."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Role:
    """One process, `python -m <module>`, with the settings that are its own."""

    name: str
    module: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def marker(self) -> str:
        """What stands in its command line and in no other program's."""
        return f"-m {self.module}"


def roles(*, api_host: str, api_port: int) -> list[Role]:
    """The API, the relay, maintenance, and two workers: one that is always there for high priority, one for all."""
    return [
        Role("api", "app.api.run", {"API_HOST": api_host, "API_PORT": str(api_port)}),
        Role("relay", "app.outbox.run"),
        Role("maintenance", "app.maintenance.run"),
        Role("worker-high", "app.workers.run", {"WORKER_QUEUES": "tasks.high"}),
        Role("worker-all", "app.workers.run", {"WORKER_QUEUES": "tasks.high:6,tasks.medium:3,tasks.low:1"}),
    ]
