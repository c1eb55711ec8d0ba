-- The tasks of the earlier call that holds an idempotency key; null where nobody does.
CREATE FUNCTION aftercommit.replayed(idempotency_key text, hash bytea, moment timestamptz) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    held record;
BEGIN
    SELECT k.request_hash, k.task_ids INTO held FROM aftercommit.idempotency_keys AS k
    WHERE k.key = idempotency_key AND k.created_at >= moment - interval '24 hours';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF held.request_hash <> hash THEN
        PERFORM aftercommit.refuse(
            'AC005', 'idempotency_key', format('%L came with another request before', idempotency_key),
            'Use a new key for a new request. A request over HTTP is always another one than a call in SQL.'
        );
    END IF;
    IF EXISTS (
        SELECT FROM unnest(held.task_ids) AS known (id)
        WHERE NOT EXISTS (SELECT FROM aftercommit.tasks AS t WHERE t.id = known.id)
    ) THEN
        PERFORM aftercommit.refuse(
            'AC006', 'idempotency_key', format('retention deleted tasks that %L stands for', idempotency_key),
            'Use a new key for a new request.'
        );
    END IF;
    RETURN held.task_ids;
END
$$
