-- A task's own delays, as ``tasks.retry`` keeps them: with the defaults of their day.
CREATE FUNCTION aftercommit.checked_retry(given jsonb, field text) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    longest_seconds constant numeric := 31536000;
    delays jsonb;
    backoff jsonb;
BEGIN
    PERFORM aftercommit.check_fields(given, field, '{delays_seconds,backoff}');
    delays := nullif(given -> 'delays_seconds', 'null');
    backoff := nullif(given -> 'backoff', 'null');
    IF (delays IS NULL) = (backoff IS NULL) THEN
        PERFORM aftercommit.refuse('AC001', field, 'give either delays_seconds or backoff');
    END IF;
    IF delays IS NOT NULL THEN
        field := field || '/delays_seconds';
        IF jsonb_typeof(delays) <> 'array' THEN
            PERFORM aftercommit.refuse('AC001', field, 'is not an array');
        END IF;
        IF jsonb_array_length(delays) NOT BETWEEN 1 AND 50 THEN
            PERFORM aftercommit.refuse('AC001', field, 'has none or too many: give 1 to 50 numbers of seconds');
        END IF;
        FOR n IN 0 .. jsonb_array_length(delays) - 1 LOOP
            PERFORM aftercommit.checked_number(delays -> n, field || '/' || n, 0, longest_seconds);
        END LOOP;
        RETURN jsonb_build_object('delays_seconds', delays);
    END IF;
    field := field || '/backoff';
    PERFORM aftercommit.check_fields(backoff, field, '{initial_seconds,factor,cap_seconds,jitter}');
    backoff := '{"factor": 2, "cap_seconds": 3600, "jitter": 0.1}' || backoff;
    PERFORM
        aftercommit.checked_number(backoff -> 'initial_seconds', field || '/initial_seconds', 0, longest_seconds, true),
        aftercommit.checked_number(backoff -> 'factor', field || '/factor', 1, 100),
        aftercommit.checked_number(backoff -> 'cap_seconds', field || '/cap_seconds', 0, longest_seconds, true),
        aftercommit.checked_number(backoff -> 'jitter', field || '/jitter', 0, 1);
    RETURN jsonb_build_object('backoff', backoff);
END
$$
