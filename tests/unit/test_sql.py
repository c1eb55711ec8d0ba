"""``aftercommit.sql`` without a database: what it takes, and what it imports."""

import subprocess
import sys
from typing import Any

import pytest

from aftercommit import sql
from aftercommit.sql.drivers import driver_of


class NoConnection:
    """Executes, and is of no driver that is known."""

    def execute(self, *_: Any, **__: Any) -> None:
        raise AssertionError("it was not to be asked")


def test_object_that_is_no_connection_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match=r"test_sql\.NoConnection is no connection that tasks can be submitted on"):
        sql.submit(NoConnection(), "echo")


def test_subclass_of_a_driver_s_connection_is_known() -> None:
    connection = type("Connection", (), {"__module__": "psycopg"})
    own = type("OwnConnection", (connection,), {})
    assert driver_of(own()) is driver_of(connection())


def test_payload_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sql.submit(NoConnection(), "echo", {"n": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        sql.submit(NoConnection(), "echo", {"n": object()})


def test_no_driver_is_imported() -> None:
    code = "import sys; import aftercommit.sql; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {"asyncpg", "psycopg", "sqlalchemy", "django", "pydantic"}
