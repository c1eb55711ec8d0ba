-- Tasks and their outbox rows, in one statement; as ``db/submit.py`` writes them. Those with a status are left out.
-- What is to be sent at once belongs to the relays. In plpgsql, which keeps its plan.
CREATE FUNCTION aftercommit.insert_tasks(made aftercommit.tasks[], moment timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH task AS (
        INSERT INTO aftercommit.tasks (
            id, type, queue, priority, max_retries, timeout_seconds, tags, payload, status, dispatch, enqueued, due_at,
            expires_at, retry, result_ttl_seconds, uniqueness, features, created_at, queued_at
        )
        SELECT id, type, queue, priority, max_retries, timeout_seconds, tags, payload,
            CASE WHEN due_at IS NULL THEN 'queued' ELSE 'scheduled' END, (due_at IS NULL)::integer, due_at IS NULL,
            due_at, expires_at, retry, result_ttl_seconds, uniqueness, features, moment, moment
        FROM unnest(made) WHERE status IS NULL
        RETURNING id, queue, priority, dispatch
    )
    INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)
    SELECT work_queue, array_agg(id), array_agg(dispatch) FROM (
        SELECT id, dispatch, queue || '.' || priority AS work_queue, (row_number() OVER () - 1) / 1000 AS part
        FROM task WHERE dispatch > 0
    ) AS sent
    GROUP BY work_queue, part;
END
$$
