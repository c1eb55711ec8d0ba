-- Whether ``given`` is an object that has no other fields than ``known``.
CREATE FUNCTION aftercommit.check_fields(given jsonb, field text, known text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    stranger text;
BEGIN
    IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
        PERFORM aftercommit.refuse('AC001', field, 'is not an object');
    END IF;
    IF given - known <> '{}' THEN
        SELECT min(key COLLATE "C") INTO stranger FROM jsonb_object_keys(given - known) AS key;
        stranger := left(replace(replace(stranger, '~', '~0'), '/', '~1'), 200);
        PERFORM aftercommit.refuse(
            'AC001', concat_ws('/', nullif(field, ''), stranger), 'there is no such field',
            format('The fields are %s.', array_to_string(known, ', '))
        );
    END IF;
END
$$
