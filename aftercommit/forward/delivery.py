"""One try to bring a batch to the service, and what its answer means for the rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from aftercommit.client.call import Call
from aftercommit.client.errors import ApiError, BodyTooLarge, MalformedRequest, TasksDeleted
from aftercommit.client.target import Target
from aftercommit.client.tries import NOT_SENT, UNTOUCHED
from aftercommit.db.caller_outbox import Batch

TRY_SECONDS: Final = 60.0

_POINTER: Final = re.compile(r"#/tasks/(\d+)(?:/|$)")
_REFUSED_AS_A_WHOLE: Final = (BodyTooLarge, MalformedRequest)
_TURNED_AWAY: Final = frozenset({401, 403, 404, 405, 415, 429})


class Away(Exception):
    """The service could not be asked, or does not take anything now. ``undone``: it surely has not taken the batch."""

    def __init__(self, detail: str, *, undone: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.undone = undone
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing of the batch was taken. ``reasons`` are of its rows, by position; none: the batch is to be split, since
    nobody knows which row it was."""

    reasons: Mapping[int, str] = field(default_factory=dict)


class Delivery:
    """Sends batches to the API of ``url``."""

    def __init__(self, url: str | None, *, api_key: str | None) -> None:
        """Raises ValueError for a URL or key that cannot be."""
        self._target = Target.read(url, api_key=api_key, timeout=TRY_SECONDS, try_timeout=TRY_SECONDS)
        self._http = httpx.AsyncClient()

    async def send(self, batch: Batch) -> Refused | None:
        """None: the service has all tasks of the batch, perhaps from an earlier try. Raises Away."""
        call = Call(
            method="POST",
            path="/v1/tasks/batch",
            body=b'{"tasks":[' + b",".join(row.request.encode() for row in batch.rows) + b"]}",
            idempotency_key=str(batch.id),
            repeatable=True,
            parse=lambda _: None,
        )
        try:
            answer = await self._http.request(**self._target.request(call, self._target.tries(call)))
            call.result(answer)
        except httpx.RequestError as error:
            raise Away(f"{type(error).__name__}: {error}", undone=isinstance(error, NOT_SENT)) from error
        except ApiError as error:
            return judged(error, rows=len(batch.rows))
        return None

    async def close(self) -> None:
        await self._http.aclose()


def judged(error: ApiError, *, rows: int) -> Refused | None:
    """What the service's answer to a batch of so many rows means, as ``Delivery.send`` returns it. Raises Away."""
    if isinstance(error, TasksDeleted):
        return None  # an earlier try was taken, so long ago that its tasks have ended and are gone
    if isinstance(error, _REFUSED_AS_A_WHOLE):
        return Refused({0: error.detail} if rows == 1 else {})
    if error.errors and (found := _reasons(error)):
        return Refused(found)
    undone = error.status in _TURNED_AWAY or error.code in UNTOUCHED
    raise Away(str(error), undone=undone, retry_after_seconds=error.retry_after_seconds) from error


def _reasons(error: ApiError) -> dict[int, str]:
    """By the row's position; empty unless all that is wrong is wrong with rows."""
    reasons: dict[int, list[str]] = {}
    for flaw in error.errors:
        found = _POINTER.match(flaw.pointer)
        if found is None:
            return {}
        field = flaw.pointer[found.end() :] or "task"
        reasons.setdefault(int(found[1]), []).append(f"{field}: {flaw.detail}")
    return {position: "; ".join(each) for position, each in reasons.items()}


def halves(ids: Sequence[int]) -> Sequence[int]:
    """The first half of several rows: what a batch goes on with that was refused as a whole."""
    return ids[: (len(ids) + 1) // 2]
