"""The demo's view of the API: only what any client could do over HTTP."""

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp

from aftercommit.devstack.failure import DevstackError

Json = dict[str, Any]

PAGE_SIZE = 200


class Client:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def submit(self, task: Json) -> str:
        """The id of the task."""
        return str((await self._call("POST", "/v1/tasks", json=task))["id"])

    async def submit_batch(self, tasks: list[Json]) -> list[str]:
        """The ids, in the order of the tasks."""
        answer = await self._call("POST", "/v1/tasks/batch", json={"tasks": tasks})
        return [str(task["id"]) for task in answer["tasks"]]

    async def tasks(self, tag: str) -> AsyncIterator[Json]:
        """All tasks with a tag, newest first."""
        cursor: str | None = None
        while True:
            parameters = {"tag": tag, "limit": str(PAGE_SIZE)} | ({"cursor": cursor} if cursor else {})
            page = await self._call("GET", "/v1/tasks", params=parameters)
            for task in page["tasks"]:
                yield task
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def task(self, task_id: str) -> Json:
        """One task, with its payload, result and error, which a listing leaves out."""
        return await self._call("GET", f"/v1/tasks/{task_id}")

    async def attempts(self, task_id: str) -> list[Json]:
        return cast("list[Json]", (await self._call("GET", f"/v1/tasks/{task_id}/attempts"))["attempts"])

    async def unpublished(self) -> int:
        return int((await self._call("GET", "/v1/outbox"))["unpublished"])

    async def _call(self, method: str, path: str, **arguments: Any) -> Json:
        try:
            async with self._session.request(method, path, **arguments) as response:
                if response.status >= 300:
                    raise DevstackError(f"{method} {path} answered {response.status}: {await response.text()}")
                return cast("Json", await response.json())
        except aiohttp.ClientError as error:
            raise DevstackError(f"{method} {path} failed: {error!r}") from error
