"""``echo``: returns its payload. For trying a deployment out and for measuring one."""

from typing import Any

from aftercommit import task


@task("echo")
async def echo(**payload: Any) -> dict[str, Any]:
    return payload
