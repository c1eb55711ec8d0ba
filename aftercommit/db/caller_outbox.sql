-- What `aftercommit outbox install` makes in a caller's own database. Running it again changes nothing that is kept.
CREATE SCHEMA IF NOT EXISTS aftercommit_outbox;

CREATE TABLE IF NOT EXISTS aftercommit_outbox.rows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text,
    request jsonb NOT NULL,
    bytes integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused_at timestamptz,
    refusal text
);
COMMENT ON TABLE aftercommit_outbox.rows IS 'tasks that are committed here and not in the service yet, or were refused';
CREATE INDEX IF NOT EXISTS rows_waiting ON aftercommit_outbox.rows (id) INCLUDE (bytes) WHERE refused_at IS NULL;
CREATE INDEX IF NOT EXISTS rows_refused ON aftercommit_outbox.rows (id) WHERE refused_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS aftercommit_outbox.batch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id uuid NOT NULL,
    row_ids bigint[] NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE aftercommit_outbox.batch IS 'at most one: the rows that are on their way, and the Idempotency-Key they go with';

-- Checks what can be told here, and counts times from the call: the row may be forwarded much later. ``at`` is where the
-- task stands in what was given: nothing, or ``tasks/3/``.
CREATE OR REPLACE FUNCTION aftercommit_outbox.enqueue(given jsonb, at text, key text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    -- What is longer the service refuses.
    longest constant numeric := 100 * 366 * 86400::bigint;
    request jsonb;
    made bigint;
BEGIN
    IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'AC001', MESSAGE = rtrim(at, '/') || ': is not an object';
    END IF;
    request := jsonb_strip_nulls(given - 'payload')
        || jsonb_build_object('payload', coalesce(nullif(given -> 'payload', 'null'), '{}'));
    IF jsonb_typeof(request -> 'type') IS DISTINCT FROM 'string'
        OR request ->> 'type' !~ '^[A-Za-z][A-Za-z0-9_.:/-]{0,199}$'
    THEN
        RAISE EXCEPTION USING ERRCODE = 'AC001', MESSAGE = at || 'type: is not a task type', COLUMN = at || 'type',
            HINT = 'Write a letter, then up to 199 of letters, digits, _ . : / -.';
    END IF;
    IF jsonb_typeof(request -> 'payload') <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'AC001', MESSAGE = at || 'payload: is not an object', COLUMN = at || 'payload';
    END IF;
    IF jsonb_typeof(request -> 'delay_seconds') = 'number' AND (request ->> 'delay_seconds')::numeric <= longest THEN
        request := request - 'delay_seconds' || jsonb_build_object(
            'run_at', clock_timestamp() + make_interval(secs => (request ->> 'delay_seconds')::double precision)
        );
    END IF;
    IF jsonb_typeof(request -> 'expires_in_seconds') = 'number'
        AND (request ->> 'expires_in_seconds')::numeric <= longest
    THEN
        request := request - 'expires_in_seconds' || jsonb_build_object(
            'expires_at', clock_timestamp() + make_interval(secs => (request ->> 'expires_in_seconds')::double precision)
        );
    END IF;
    IF key IS NOT NULL THEN
        IF key = '' OR octet_length(key) > 500 THEN
            RAISE EXCEPTION USING ERRCODE = 'AC001', MESSAGE = 'key: is not 1 to 500 bytes', COLUMN = 'key';
        END IF;
        -- Others who enqueue with this key wait until this transaction has ended: ids grow as they commit.
        PERFORM pg_advisory_xact_lock(hashtextextended('aftercommit_outbox ' || key, 0));
    END IF;
    -- Before the row's id: whoever reads rows tells by transactions which ids may still come.
    PERFORM pg_current_xact_id();
    INSERT INTO aftercommit_outbox.rows AS r (key, request, bytes) VALUES (key, request, octet_length(request::text))
    RETURNING r.id INTO made;
    RETURN made;
END
$$;

CREATE OR REPLACE FUNCTION aftercommit_outbox.submit_task(
    type text,
    payload jsonb DEFAULT '{}',
    queue text DEFAULT NULL,
    priority text DEFAULT NULL,
    max_retries integer DEFAULT NULL,
    timeout_seconds double precision DEFAULT NULL,
    tags text[] DEFAULT NULL,
    retry jsonb DEFAULT NULL,
    result_ttl_seconds double precision DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    delay_seconds double precision DEFAULT NULL,
    expires_at timestamptz DEFAULT NULL,
    expires_in_seconds double precision DEFAULT NULL,
    "unique" jsonb DEFAULT NULL,
    key text DEFAULT NULL
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT aftercommit_outbox.enqueue(
        jsonb_build_object(
            'type', type, 'payload', payload, 'queue', queue, 'priority', priority, 'max_retries', max_retries,
            'timeout_seconds', timeout_seconds, 'tags', tags, 'retry', retry,
            'result_ttl_seconds', result_ttl_seconds, 'run_at', run_at, 'delay_seconds', delay_seconds,
            'expires_at', expires_at, 'expires_in_seconds', expires_in_seconds, 'unique', "unique"
        ),
        '', key
    )
$$;

CREATE OR REPLACE FUNCTION aftercommit_outbox.submit_tasks(tasks jsonb, key text DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(tasks) IS DISTINCT FROM 'array' OR jsonb_array_length(tasks) NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION USING ERRCODE = 'AC001', MESSAGE = 'tasks: is not an array of 1 to 10000 tasks', COLUMN = 'tasks';
    END IF;
    RETURN QUERY SELECT aftercommit_outbox.enqueue(each.value, format('tasks/%s/', each.n - 1), key)
        FROM jsonb_array_elements(tasks) WITH ORDINALITY AS each (value, n) ORDER BY each.n;
END
$$;

REVOKE EXECUTE ON FUNCTION
    aftercommit_outbox.enqueue, aftercommit_outbox.submit_task, aftercommit_outbox.submit_tasks FROM PUBLIC;
