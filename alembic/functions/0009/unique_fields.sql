-- The fields of the payload that a unique key is made of, as the inside of a JSON object, in the order of their names.
CREATE FUNCTION aftercommit.unique_fields(names jsonb, field text, payload jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    parts jsonb := '{}';
    name text;
    part text;
    value jsonb;
BEGIN
    IF jsonb_typeof(names) <> 'array' THEN
        PERFORM aftercommit.refuse('AC001', field, 'is not an array');
    END IF;
    IF jsonb_array_length(names) NOT BETWEEN 1 AND 20 THEN
        PERFORM aftercommit.refuse('AC001', field, 'has none or too many: give 1 to 20 names of fields of the payload');
    END IF;
    FOR n IN 0 .. jsonb_array_length(names) - 1 LOOP
        name := names ->> n;
        IF jsonb_typeof(names -> n) <> 'string' OR length(name) NOT BETWEEN 1 AND 500 THEN
            PERFORM aftercommit.refuse('AC001', field || '/' || n, 'is not a text of 1 to 500 characters');
        END IF;
        value := payload;
        FOREACH part IN ARRAY string_to_array(name, '.') LOOP
            value := CASE WHEN jsonb_typeof(value) = 'object' THEN value -> part END;
        END LOOP;
        IF value IS NULL THEN
            PERFORM aftercommit.refuse('AC001', field || '/' || n, format('%L is not in the payload', name));
        END IF;
        IF jsonb_typeof(value) IN ('object', 'array') THEN
            PERFORM aftercommit.refuse(
                'AC001', field || '/' || n,
                format('%L is an %s in the payload, not a single value', name, jsonb_typeof(value))
            );
        END IF;
        IF jsonb_typeof(value) = 'string' AND length(value #>> '{}') > 500 THEN
            PERFORM aftercommit.refuse(
                'AC001', field || '/' || n,
                format('%L has %s characters in the payload; 500 are allowed', name, length(value #>> '{}'))
            );
        END IF;
        parts := parts || jsonb_build_object(name, value);
    END LOOP;
    RETURN (
        SELECT string_agg(
            aftercommit.ascii_json(each.key) || ':' || aftercommit.scalar_json(each.value), ','
            ORDER BY each.key COLLATE "C"
        )
        FROM jsonb_each(parts) AS each
    );
END
$$
