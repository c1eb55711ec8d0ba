"""``/v1/types``: what the workers' handlers take."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query

from aftercommit.core.errors import TypeNotFound
from aftercommit.db import task_types
from aftercommit.handler import TYPE_PATTERN
from aftercommit.server.api.dependencies import Injected
from aftercommit.server.api.problems import responses
from aftercommit.server.api.type_schemas import TypeOut, TypesOut, TypesQuery

router: Final = APIRouter(prefix="/v1/types", tags=["types"])


@router.get("", responses=responses())
async def list_types(query: Annotated[TypesQuery, Query()], dependencies: Injected) -> TypesOut:
    """The task types that workers declared, by name, a page at a time."""
    rows = await task_types.list_page(dependencies.database.fetch, after=query.cursor, limit=query.limit + 1)
    page = [_out(row) for row in rows[: query.limit]]
    return TypesOut(types=page, next_cursor=page[-1].type if len(rows) > query.limit else None)


# A type may have slashes.
@router.get("/{type:path}", responses=responses(TypeNotFound))
async def get_type(
    type: Annotated[str, Path(pattern=TYPE_PATTERN, examples=["email.send"])], dependencies: Injected
) -> TypeOut:
    """One task type."""
    row = await task_types.get(dependencies.database.fetch, type)
    if row is None:
        raise TypeNotFound(f"No worker has declared {type!r}. GET /v1/types lists what there is.")
    return _out(row)


def _out(row: Any) -> TypeOut:
    schema = row["schema"]
    return TypeOut.model_validate(
        dict(row)
        | {"payload_schema": None if schema is None else json.loads(schema), "options": json.loads(row["options"])}
    )
