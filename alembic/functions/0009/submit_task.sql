-- Submit one task, in the caller's transaction. What each parameter means is in documents/reference/sql.md.
CREATE FUNCTION aftercommit.submit_task(
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
    idempotency_key text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET standard_conforming_strings = on
AS $$
DECLARE
    given jsonb;
BEGIN
    SELECT coalesce(jsonb_object_agg(option.name, option.value), '{}') INTO given
    FROM (
        VALUES
            ('queue', to_jsonb(queue)),
            ('priority', to_jsonb(priority)),
            ('max_retries', to_jsonb(max_retries)),
            ('timeout_seconds', to_jsonb(timeout_seconds)),
            ('tags', to_jsonb(tags)),
            ('retry', retry),
            ('result_ttl_seconds', to_jsonb(result_ttl_seconds)),
            ('run_at', to_jsonb(run_at)),
            ('delay_seconds', to_jsonb(delay_seconds)),
            ('expires_at', to_jsonb(expires_at)),
            ('expires_in_seconds', to_jsonb(expires_in_seconds)),
            ('unique', "unique")
    ) AS option (name, value)
    WHERE option.value <> 'null';
    given := given || jsonb_build_object('type', submit_task.type, 'payload', coalesce(payload, '{}'));
    RETURN (aftercommit.submit_given(jsonb_build_array(given), 'one', idempotency_key))[1];
END
$$
