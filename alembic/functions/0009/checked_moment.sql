-- A date and time with a time zone, in the years that Python knows.
CREATE FUNCTION aftercommit.checked_moment(given jsonb, field text) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    written constant text := given #>> '{}';
    moment timestamptz;
BEGIN
    IF jsonb_typeof(given) = 'string' AND written ~ (
        '^\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.]\d+)?)?([Zz]|[+-]\d\d(:?\d\d(:\d\d)?)?)$'
    ) THEN
        BEGIN
            moment := written::timestamptz;
        EXCEPTION WHEN data_exception THEN
            NULL;  -- the 31st of June
        END;
    END IF;
    IF moment IS NULL THEN
        PERFORM aftercommit.refuse(
            'AC001', field, 'is not a date and time with a time zone', 'Write it like 2026-01-31T12:00:00Z.'
        );
    END IF;
    IF moment < '0001-01-01 00:00:00+00' OR moment >= '10000-01-01 00:00:00+00' THEN
        PERFORM aftercommit.refuse('AC001', field, 'lies outside the years 1 to 9999 in UTC');
    END IF;
    RETURN moment;
END
$$
