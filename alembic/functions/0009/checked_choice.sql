-- ``given``, or the first of ``choices`` where the field is left out.
CREATE FUNCTION aftercommit.checked_choice(given jsonb, field text, choices text[]) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF given IS NULL THEN
        RETURN choices[1];
    END IF;
    IF jsonb_typeof(given) <> 'string' OR (given #>> '{}') <> ALL (choices) THEN
        PERFORM aftercommit.refuse('AC001', field, format('is none of %s', array_to_string(choices, ', ')));
    END IF;
    RETURN given #>> '{}';
END
$$
