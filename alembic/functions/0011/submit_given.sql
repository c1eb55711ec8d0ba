-- Submit an array of tasks, described as for ``POST /v1/tasks``; their ids, in the same order. ``kind`` is 'one' or
-- 'batch': two requests with one idempotency key are the same only if they are of one kind.
CREATE OR REPLACE FUNCTION aftercommit.submit_given(given jsonb, kind text, idempotency_key text) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    -- Not the transaction's time, which may have begun long ago.
    moment constant timestamptz := clock_timestamp();
    hash bytea;
    queues text[];
    most_bytes integer;
    schema_check text;
    wanted aftercommit.tasks[];
    replacements aftercommit.tasks[];
    taken bytea[];
    answers uuid[];
BEGIN
    IF idempotency_key IS NOT NULL THEN
        IF idempotency_key !~ '^[!-~]{1,200}$' THEN
            PERFORM aftercommit.refuse('AC001', 'idempotency_key', 'is not 1 to 200 visible ASCII characters');
        END IF;
        -- A hash over HTTP has 32 bytes: no call is taken for a request, nor the other way round.
        hash := convert_to('sql:', 'UTF8') || sha256(convert_to(kind || ' ' || given::text, 'UTF8'));
        answers := aftercommit.replayed(idempotency_key, hash, moment);
        IF answers IS NOT NULL THEN
            RETURN answers;
        END IF;
    END IF;

    queues := ARRAY(
        SELECT q.name FROM aftercommit.queues AS q WHERE q.deleted_at IS NULL AND q.deleting_at IS NULL
        ORDER BY q.position, q.name
    );
    SELECT s.max_payload_bytes, s.schema_check INTO STRICT most_bytes, schema_check
    FROM aftercommit.shared_settings AS s;
    SELECT array_agg(
        aftercommit.checked_task(
            each.value, CASE kind WHEN 'batch' THEN format('tasks/%s/', each.n - 1) ELSE '' END,
            moment, queues, most_bytes
        )
        ORDER BY each.n
    ) INTO wanted
    FROM jsonb_array_elements(given) WITH ORDINALITY AS each (value, n);
    wanted := aftercommit.checked_by_queues(wanted, kind);
    IF schema_check = 'reject' THEN
        PERFORM aftercommit.check_types(wanted, kind);
    END IF;

    -- Keys are locked first, and looked at in the next statement: one that waited for a lock sees nothing that was
    -- committed meanwhile.
    IF EXISTS (SELECT FROM unnest(wanted) AS t WHERE t.uniqueness IS NOT NULL) THEN
        taken := aftercommit.lock_unique_keys(wanted, moment);
        IF idempotency_key IS NOT NULL THEN
            answers := aftercommit.replayed(idempotency_key, hash, moment);
            IF answers IS NOT NULL THEN
                RETURN answers;
            END IF;
        END IF;
        SELECT p.wanted, p.replacements, p.answers INTO wanted, replacements, answers
        FROM aftercommit.plan_unique(given, kind, moment, taken, wanted) AS p;
    ELSE
        answers := ARRAY(SELECT t.id FROM unnest(wanted) WITH ORDINALITY AS t ORDER BY t.ordinality);
    END IF;

    IF idempotency_key IS NOT NULL THEN
        INSERT INTO aftercommit.idempotency_keys AS k (key, request_hash, task_ids, created_at)
        VALUES (idempotency_key, hash, answers, moment)
        ON CONFLICT (key) DO UPDATE
            SET request_hash = excluded.request_hash, task_ids = excluded.task_ids, created_at = excluded.created_at
            WHERE k.created_at < moment - interval '24 hours';
        IF NOT FOUND THEN
            -- The row is locked now, so that nobody prunes it.
            RETURN aftercommit.replayed(idempotency_key, hash, moment);
        END IF;
    END IF;
    PERFORM aftercommit.insert_tasks(wanted, moment);
    IF cardinality(replacements) > 0 THEN
        PERFORM aftercommit.replace_tasks(replacements, moment);
    END IF;
    RETURN answers;
END
$$
