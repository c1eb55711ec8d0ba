-- Whether a task holds the unique key that it took last; as ``db/unique_keys.py`` has it. One that waits past its
-- deadline is started no more, but by a claim that began before: a statement may take 25 seconds. That goes by the
-- transaction's own time, since its snapshot may be as old.
CREATE FUNCTION aftercommit.is_held(
    held_while text, held_until timestamptz, status text, expires_at timestamptz, moment timestamptz
) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN held_while = 'for_seconds' THEN held_until > moment
        WHEN status = 'running' THEN held_while = 'unfinished'
        ELSE status IN ('scheduled', 'queued', 'retrying')
            AND (expires_at > now() - interval '25 seconds') IS NOT FALSE
    END
$$
