-- What a worker can read: ``jsonb`` has larger numbers than a float holds, and nests deeper than JSON readers do.
CREATE FUNCTION aftercommit.checked_payload(given jsonb, field text, most_bytes integer) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    written constant text := given;
BEGIN
    IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
        PERFORM aftercommit.refuse('AC001', field, 'is not an object');
    END IF;
    IF octet_length(written) > most_bytes THEN
        PERFORM aftercommit.refuse(
            'AC003', field,
            format('has %s bytes; API_MAX_PAYLOAD_BYTES allows %s', octet_length(written), most_bytes),
            'Keep what is large elsewhere, and submit where it is.'
        );
    END IF;
    IF jsonb_path_exists(given, '$.**{100}') THEN
        PERFORM aftercommit.refuse('AC001', field, 'is nested deeper than 100 levels');
    END IF;
    IF jsonb_path_exists(given, '$.** ? (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308)') THEN
        PERFORM aftercommit.refuse('AC001', field, 'has a number that no float holds', 'Give it as a text.');
    END IF;
    RETURN written;
END
$$
