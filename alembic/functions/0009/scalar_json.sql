-- What is no array and no object in JSON as Python writes it; a whole number without a point, however it was given.
CREATE FUNCTION aftercommit.scalar_json(given jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    number numeric;
    written text;
BEGIN
    IF jsonb_typeof(given) = 'string' THEN
        RETURN aftercommit.ascii_json(given #>> '{}');
    ELSIF jsonb_typeof(given) <> 'number' THEN
        RETURN given::text;
    END IF;
    number := given::numeric;
    IF number = trunc(number) THEN
        RETURN trunc(number)::text;
    ELSIF abs(number) < 2.5e-324 THEN
        RETURN '0';  -- a float holds nothing smaller
    END IF;
    written := number::double precision;
    -- Python writes out what has up to 16 digits before the point.
    RETURN CASE WHEN written LIKE '%e+%' THEN written::numeric::text ELSE written END;
END
$$
