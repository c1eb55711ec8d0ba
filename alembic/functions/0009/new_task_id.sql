-- A UUIDv7 (RFC 9562, 5.7), with the fraction of the millisecond in front of the random part, so that the ids of one
-- batch grow.
CREATE FUNCTION aftercommit.new_task_id() RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    microseconds constant bigint := extract(epoch FROM clock_timestamp()) * 1000000;
BEGIN
    RETURN (
        lpad(to_hex(microseconds / 1000), 12, '0') || '7' || lpad(to_hex(microseconds % 1000 * 4096 / 1000), 3, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 16)
    )::uuid;
END
$$
