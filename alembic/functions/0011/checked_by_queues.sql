-- The tasks, with the defaults of their queues. Refuses what a queue does not take, and what is more than it may hold.
CREATE FUNCTION aftercommit.checked_by_queues(wanted aftercommit.tasks[], kind text) RETURNS aftercommit.tasks[]
LANGUAGE plpgsql AS $$
DECLARE
    queue aftercommit.queues;
    made aftercommit.tasks;
    at text;
    n integer;
    waiting bigint;
    more bigint;
BEGIN
    FOR queue IN
        SELECT q.* FROM aftercommit.queues AS q
        WHERE q.name IN (SELECT t.queue FROM unnest(wanted) AS t) AND num_nonnulls(
            q.priorities, q.types, q.max_payload_bytes, q.max_retries, q.retry, q.timeout_seconds, q.max_waiting
        ) > 0
        ORDER BY q.name
    LOOP
        FOR n IN SELECT t.ordinality FROM unnest(wanted) WITH ORDINALITY AS t WHERE t.queue = queue.name LOOP
            made := wanted[n];
            at := CASE kind WHEN 'batch' THEN format('tasks/%s/', n - 1) ELSE '' END;
            IF made.priority <> ALL (queue.priorities) THEN
                PERFORM aftercommit.refuse(
                    'AC001', at || 'priority', format(
                        '%s takes no %s tasks: %s only', queue.name, made.priority,
                        array_to_string(queue.priorities, ' and ')
                    )
                );
            END IF;
            IF made.type <> ALL (queue.types) THEN
                PERFORM aftercommit.refuse(
                    'AC001', at || 'type', format(
                        '%s does not take %L: it takes %s', queue.name, made.type, array_to_string(queue.types, ', ')
                    )
                );
            END IF;
            IF octet_length(made.payload::text) > queue.max_payload_bytes THEN
                PERFORM aftercommit.refuse(
                    'AC003', at || 'payload', format(
                        'has %s bytes; max_payload_bytes of %s allows %s',
                        octet_length(made.payload::text), queue.name, queue.max_payload_bytes
                    )
                );
            END IF;
            made.max_retries := coalesce(made.max_retries, queue.max_retries);
            made.timeout_seconds := coalesce(made.timeout_seconds, queue.timeout_seconds);
            made.retry := coalesce(made.retry, queue.retry);
            wanted[n] := made;
        END LOOP;
        CONTINUE WHEN queue.max_waiting IS NULL;
        more := (SELECT count(*) FROM unnest(wanted) AS t WHERE t.queue = queue.name);
        waiting := (
            SELECT count(*) FROM (
                SELECT FROM aftercommit.tasks AS t
                WHERE t.finished_at IS NULL AND t.dispatch > 0 AND t.queue = queue.name LIMIT queue.max_waiting + 1
            ) AS counted
        );
        IF waiting + more > queue.max_waiting THEN
            PERFORM aftercommit.refuse(
                'AC008', 'queue', format(
                    '%s has %s unfinished tasks, and its max_waiting is %s: %s more do not fit',
                    queue.name, waiting, queue.max_waiting, more
                ),
                'Try again when some have ended.'
            );
        END IF;
    END LOOP;
    RETURN wanted;
END
$$
