"""Both clients behind one way to call them, so that a test is written once."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aftercommit import AsyncClient, Client


@dataclass
class Face:
    """``called`` has the names of the methods that were called."""

    client: Client | AsyncClient
    called: set[str] = field(default_factory=set)

    async def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The result of a method; of one that iterates, the list of all."""
        self.called.add(name)
        method = getattr(self.client, name)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(_finished, method, args, kwargs)
        answer = method(*args, **kwargs)
        return [item async for item in answer] if hasattr(answer, "__aiter__") else await answer

    async def close(self) -> None:
        if isinstance(self.client, Client):
            self.client.close()
        else:
            await self.client.aclose()


def _finished(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    answer = method(*args, **kwargs)
    return list(answer) if isinstance(answer, Iterator) else answer
