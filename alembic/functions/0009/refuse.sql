-- Raises one of our own SQLSTATEs. ``field`` is the pointer that the HTTP API would give, without its ``#/``.
CREATE FUNCTION aftercommit.refuse(code text, field text, flaw text, advice text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF advice IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = field || ': ' || flaw, COLUMN = field;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = field || ': ' || flaw, HINT = advice, COLUMN = field;
END
$$
