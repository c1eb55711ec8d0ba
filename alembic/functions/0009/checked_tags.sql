-- Without doubles, in the order in which they first come.
CREATE FUNCTION aftercommit.checked_tags(given jsonb, field text) RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
    IF given IS NULL THEN
        RETURN '{}';
    END IF;
    IF jsonb_typeof(given) <> 'array' THEN
        PERFORM aftercommit.refuse('AC001', field, 'is not an array');
    END IF;
    IF jsonb_array_length(given) > 20 THEN
        PERFORM aftercommit.refuse('AC001', field, format('has %s tags: give up to 20', jsonb_array_length(given)));
    END IF;
    FOR n IN 0 .. jsonb_array_length(given) - 1 LOOP
        IF jsonb_typeof(given -> n) <> 'string' OR given ->> n !~ '^[A-Za-z0-9_.:/@+=#-]{1,100}$' THEN
            PERFORM aftercommit.refuse(
                'AC001', field || '/' || n, 'is not a tag', 'Write 1 to 100 of A-Z a-z 0-9 _ . : / @ + = # -.'
            );
        END IF;
    END LOOP;
    RETURN ARRAY(
        SELECT tag FROM jsonb_array_elements_text(given) WITH ORDINALITY AS each (tag, n) GROUP BY tag ORDER BY min(n)
    );
END
$$
