"""What a worker and the process of a single attempt have in common: their handlers."""

from aftercommit.core.outcomes import Outcome
from aftercommit.core.settings import Settings
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.engine import create_engine
from aftercommit.handlers.echo import echo
from aftercommit.handlers.http_request import HttpRequests
from aftercommit.worker.executor import Execution, Executor
from aftercommit.worker.registry import Handlers, load_handlers


def make_http_requests(settings: Settings) -> HttpRequests:
    return HttpRequests(
        allow_private_addresses=settings.http_allow_private_addresses,
        max_response_bytes=settings.http_max_response_bytes,
    )


def find_handlers(settings: Settings, http: HttpRequests) -> Handlers:
    """The shipped handlers and those of WORKER_MODULES. Raises BadModule."""
    return load_handlers([echo, http.handler()], settings.worker_modules)


async def run_isolated(settings: Settings, task: ClaimedTask) -> tuple[Outcome, bool]:
    """Run one attempt in this process, and nothing else: what ``ProcessRunner`` calls in the process it made."""
    http = make_http_requests(settings)
    engine = create_engine(settings, application="isolated", size=1)
    execution = Execution(task)
    executor = Executor(find_handlers(settings, http), settings, engine=engine, isolation=None)
    outcome = await executor.run(execution)
    await http.close()
    await engine.dispose()
    return outcome, execution.recorded
