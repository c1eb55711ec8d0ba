"""Submit inside your own transaction, on a connection or session of your own.

::

    from aftercommit import sql

    with psycopg.connect(...) as connection:
        connection.execute("INSERT INTO orders ...")
        task_id = sql.submit(connection, "order.confirm", {"order": 17}, priority="high")

The tasks exist once that transaction commits. The database is Aftercommit's own, and its user may execute
``aftercommit.submit_tasks``.
"""

from aftercommit.sql.submit import submit, submit_many
from aftercommit.task_request import TaskOptions, TaskRequest

__all__ = ["TaskOptions", "TaskRequest", "submit", "submit_many"]
