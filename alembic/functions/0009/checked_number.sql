-- ``given`` from ``lowest``, or from ``above`` it, up to ``highest``.
CREATE FUNCTION aftercommit.checked_number(
    given jsonb, field text, lowest numeric, highest numeric, above boolean DEFAULT false
) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    number numeric;
BEGIN
    IF jsonb_typeof(given) IS DISTINCT FROM 'number' THEN
        PERFORM aftercommit.refuse('AC001', field, 'is not a number');
    END IF;
    number := given::numeric;
    IF number < lowest OR number > highest OR above AND number = lowest THEN
        PERFORM aftercommit.refuse(
            'AC001', field, format(
                'is %s: give a number %s %s, up to %s',
                left(number::text, 40), CASE WHEN above THEN 'above' ELSE 'from' END, lowest, highest
            )
        );
    END IF;
    RETURN number;
END
$$
