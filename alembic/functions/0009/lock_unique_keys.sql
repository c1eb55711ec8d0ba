-- Lock the unique keys of ``wanted``, in their order, until the transaction ends. Those that had no row are given to
-- the first task that wants them, and returned.
CREATE FUNCTION aftercommit.lock_unique_keys(wanted aftercommit.tasks[], moment timestamptz) RETURNS bytea[]
LANGUAGE plpgsql AS $$
DECLARE
    given_away bytea[];
BEGIN
    WITH first AS (
        SELECT DISTINCT ON (t.uniqueness ->> 'hash')
            decode(t.uniqueness ->> 'hash', 'hex') AS key, t.id AS task_id,
            coalesce(t.uniqueness ->> 'while', 'for_seconds') AS held_while,
            moment + make_interval(secs => (t.uniqueness ->> 'for_seconds')::double precision) AS held_until
        FROM unnest(wanted) WITH ORDINALITY AS t
        WHERE t.uniqueness IS NOT NULL
        ORDER BY t.uniqueness ->> 'hash', t.ordinality
    ), taken AS (
        INSERT INTO aftercommit.unique_keys AS k (key, task_id, held_while, held_since, held_until)
        SELECT key, task_id, held_while, moment, held_until FROM first ORDER BY key
        -- A row that exists is locked, and no new version of it is written.
        ON CONFLICT (key) DO UPDATE SET task_id = k.task_id WHERE false
        RETURNING key
    )
    SELECT coalesce(array_agg(key), '{}') INTO given_away FROM taken;
    RETURN given_away;
END
$$
