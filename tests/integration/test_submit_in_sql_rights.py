"""A role that may submit, and may do nothing else."""

import re
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.callers import ECHO, calling, know
from tests.integration.conftest import ROOT
from tests.integration.service import Service

DENIED = "42501"
SUBMITS = {"submit_task", "submit_tasks"}


@pytest.fixture
async def role(service: Service) -> AsyncIterator[str]:
    """The name and the password of a role that may log in."""
    name = f"app_{uuid4().hex}"
    await know(service)
    async with calling(service) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        yield name
        await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def documented_grants(role: str) -> str:
    """The statements of the reference page, for ``role``."""
    page = (ROOT / "documents/reference/sql.md").read_text()
    (block,) = [block for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "GRANT USAGE" in block]
    return re.sub(r"\bTO app\b", f"TO {role}", block)


async def grant(service: Service, role: str) -> None:
    async with calling(service) as owner:
        await owner.execute(documented_grants(role))


async def state_of(connection: asyncpg.Connection, statement: str) -> str:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await connection.fetch(statement)
    return str(caught.value.sqlstate)


async def test_role_without_grants_cannot_submit(service: Service, role: str) -> None:
    async with calling(service, login=role) as connection:
        assert await state_of(connection, ECHO) == DENIED
    async with calling(service) as owner:
        await owner.execute(f"GRANT USAGE ON SCHEMA aftercommit TO {role}")
    async with calling(service, login=role) as connection:
        assert await state_of(connection, ECHO) == DENIED


async def test_role_with_the_documented_grants_can_submit(service: Service, role: str) -> None:
    await grant(service, role)
    unique = """'{"key": "k", "on_conflict": "replace"}'"""
    async with calling(service, login=role) as connection:
        for _ in range(2):
            await connection.fetch(f"SELECT aftercommit.submit_task('echo', \"unique\" => {unique})")
        await connection.fetch("""SELECT aftercommit.submit_tasks('[{"type": "echo"}]', 'k')""")
    (row,) = await service.query("SELECT count(*) FROM aftercommit.tasks")
    assert row[0] == 2


async def test_role_with_the_documented_grants_can_do_nothing_else(service: Service, role: str) -> None:
    await grant(service, role)
    tables = await service.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'aftercommit'::regnamespace AND relkind IN ('r', 'v')"
    )
    functions = await service.query(
        "SELECT proname, has_function_privilege(:role, oid, 'EXECUTE') AS may"
        " FROM pg_proc WHERE pronamespace = 'aftercommit'::regnamespace",
        role=role,
    )
    assert {row.proname for row in functions if row.may} == SUBMITS
    assert len(functions) > len(SUBMITS)
    async with calling(service, login=role) as connection:
        for (table,) in tables:
            for statement in (
                f"SELECT FROM aftercommit.{table}",
                f"INSERT INTO aftercommit.{table} DEFAULT VALUES",
                f"DELETE FROM aftercommit.{table}",
            ):
                assert await state_of(connection, statement) == DENIED, statement
        assert await state_of(connection, "SELECT nextval('aftercommit.outbox_id_seq')") == DENIED
        assert await state_of(connection, "CREATE TABLE aftercommit.mine (id int)") == DENIED


async def test_objects_of_the_caller_are_not_taken_for_those_of_the_service(service: Service, role: str) -> None:
    """Names that the function would find first, if it looked where the caller does."""
    await grant(service, role)
    async with calling(service, login=role) as connection:
        await connection.execute(
            """
            CREATE TEMP TABLE queues AS SELECT 'mine'::text AS name, 0 AS position;
            CREATE TEMP TABLE tasks (id uuid);
            CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT NULL::timestamptz $$;
            """
        )
        await connection.execute("SET search_path = pg_temp, public")
        await connection.fetchval(ECHO)
    (task,) = await service.query("SELECT queue, created_at IS NOT NULL FROM aftercommit.tasks")
    assert tuple(task) == ("tasks", True)
