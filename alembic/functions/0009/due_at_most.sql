-- ``due_at``, but no later than ``latest``; null: at once.
CREATE FUNCTION aftercommit.due_at_most(due_at timestamptz, latest timestamptz, moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN due_at > latest AND latest > moment THEN latest
        WHEN due_at > latest THEN NULL
        ELSE due_at
    END
$$
