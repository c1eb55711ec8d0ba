-- Make waiting tasks, which the caller has locked, what ``replacements`` say; as ``db/unique_keys.py`` does it.
CREATE FUNCTION aftercommit.replace_tasks(replacements aftercommit.tasks[], moment timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    count_replaced integer;
BEGIN
    WITH held AS (
        SELECT given.*, message.keeps_message, CASE
            WHEN given.due_at IS NULL THEN 'queued'
            WHEN t.status = 'scheduled' OR message.keeps_message AND t.dispatch = 1 THEN 'scheduled'
            ELSE 'retrying' END AS new_status
        FROM unnest(replacements) AS given JOIN aftercommit.tasks AS t ON t.id = given.id
        CROSS JOIN LATERAL (
            SELECT t.status = 'queued' AND t.queue = given.queue AND t.priority = given.priority AS keeps_message
        ) AS message
        WHERE t.status IN ('scheduled', 'queued', 'retrying')
    ), task AS (
        UPDATE aftercommit.tasks AS t
        SET type = held.type, queue = held.queue, priority = held.priority, max_retries = held.max_retries,
            timeout_seconds = held.timeout_seconds, tags = held.tags, payload = held.payload,
            due_at = held.due_at, expires_at = held.expires_at, retry = held.retry,
            result_ttl_seconds = held.result_ttl_seconds, schedule = NULL,
            status = held.new_status, enqueued = held.due_at IS NULL, uncharged = t.attempt, error = NULL,
            dispatch = CASE WHEN held.new_status = 'scheduled' THEN 0
                ELSE t.dispatch + (NOT (held.due_at IS NULL AND held.keeps_message))::integer END,
            queued_at = CASE WHEN held.due_at IS NULL AND NOT held.keeps_message THEN moment ELSE t.queued_at END
        FROM held WHERE t.id = held.id
        RETURNING t.id, t.queue, t.priority, t.dispatch, held.due_at IS NULL AND NOT held.keeps_message AS is_sent
    ), sent AS (
        INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)
        SELECT work_queue, array_agg(id), array_agg(dispatch) FROM (
            SELECT id, dispatch, queue || '.' || priority AS work_queue, (row_number() OVER () - 1) / 1000 AS part
            FROM task WHERE is_sent
        ) AS parts
        GROUP BY work_queue, part
    )
    SELECT count(*) INTO count_replaced FROM task;
    ASSERT count_replaced = cardinality(replacements), 'a task that was locked while it waited does not wait any more';
END
$$
