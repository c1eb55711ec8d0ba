"""What a worker and the process of a single attempt have in common: their handlers."""

from app.config import Settings
from app.db.claims import ClaimedTask
from app.db.engine import create_engine
from app.handlers.echo import echo
from app.handlers.http_request import HttpRequests
from app.outcomes import Outcome
from app.workers.executor import Execution, Executor
from app.workers.handlers import Handlers, load_handlers


def make_http_requests(settings: Settings) -> HttpRequests:
    return HttpRequests(
        allow_private_addresses=settings.http_allow_private_addresses,
        max_response_bytes=settings.http_max_response_bytes,
    )


def find_handlers(settings: Settings, http: HttpRequests) -> Handlers:
    """The shipped handlers and those of WORKER_MODULES. Raises BadModule."""
    return load_handlers([echo, http.handler()], settings.worker_modules)


async def run_isolated(settings: Settings, task: ClaimedTask) -> tuple[Outcome, bool]:
    """Run one attempt in this process, and nothing else: what ``Isolation`` calls in the process it made."""
    http = make_http_requests(settings)
    engine = create_engine(settings.model_copy(update={"postgres_pool_size": 1}), application="isolated")
    execution = Execution(task)
    executor = Executor(find_handlers(settings, http), settings, engine=engine, isolation=None)
    outcome = await executor.run(execution)
    await http.close()
    await engine.dispose()
    return outcome, execution.recorded
