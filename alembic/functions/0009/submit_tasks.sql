-- Submit 1 to 10,000 tasks, in the caller's transaction; their ids, in the same order. ``tasks`` is an array of objects
-- with the fields of ``POST /v1/tasks``.
CREATE FUNCTION aftercommit.submit_tasks(tasks jsonb, idempotency_key text DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET standard_conforming_strings = on
AS $$
BEGIN
    IF jsonb_typeof(tasks) IS DISTINCT FROM 'array' THEN
        PERFORM aftercommit.refuse('AC001', 'tasks', 'is not an array');
    END IF;
    IF jsonb_array_length(tasks) NOT BETWEEN 1 AND 10000 THEN
        PERFORM aftercommit.refuse(
            'AC001', 'tasks', format('has %s tasks: give 1 to 10000', jsonb_array_length(tasks)),
            'Call the function again for the others, in the same transaction.'
        );
    END IF;
    RETURN QUERY SELECT id FROM unnest(aftercommit.submit_given(tasks, 'batch', idempotency_key)) AS id;
END
$$
