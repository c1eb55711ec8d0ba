-- One task, described as for ``POST /v1/tasks``, as the row that it becomes at ``moment``. ``at`` is where it stands in
-- what was given: nothing, or ``tasks/3/``. ``queues`` are the known ones, the default first.
CREATE OR REPLACE FUNCTION aftercommit.checked_task(
    given jsonb, at text, moment timestamptz, queues text[], most_bytes integer
) RETURNS aftercommit.tasks
LANGUAGE plpgsql AS $$
DECLARE
    longest_seconds constant numeric := 100 * 366 * 86400::bigint;
    made aftercommit.tasks;
    payload jsonb;
    value jsonb;
    delay jsonb;
    lifetime jsonb;
    starts_at timestamptz;
    deadline text;
    own_queue text;
    own_priority text;
BEGIN
    PERFORM aftercommit.check_fields(
        given, rtrim(at, '/'),
        '{type,payload,queue,priority,max_retries,timeout_seconds,tags,retry,result_ttl_seconds,run_at,delay_seconds,'
        'expires_at,expires_in_seconds,unique}'
    );
    made.id := aftercommit.new_task_id();

    made.type := given ->> 'type';
    IF jsonb_typeof(given -> 'type') IS DISTINCT FROM 'string'
        OR made.type !~ '^[A-Za-z][A-Za-z0-9_.:/-]{0,199}$'
    THEN
        PERFORM aftercommit.refuse(
            'AC001', at || 'type', 'is not a task type', 'Write a letter, then up to 199 of letters, digits, _ . : / -.'
        );
    END IF;

    payload := coalesce(given -> 'payload', '{}');
    made.payload := aftercommit.checked_payload(payload, at || 'payload', most_bytes);

    SELECT d.options ->> 'queue', d.options ->> 'priority' INTO own_queue, own_priority
    FROM aftercommit.task_types AS d WHERE d.type = made.type;
    made.queue := coalesce(given ->> 'queue', CASE WHEN own_queue = ANY (queues) THEN own_queue END, queues[1]);
    IF queues = '{}' THEN
        PERFORM aftercommit.refuse(
            'AC002', at || 'queue', 'no queue is known yet',
            'Start the API or maintenance: they write QUEUES down here.'
        );
    END IF;
    IF made.queue <> ALL (queues) THEN
        PERFORM aftercommit.refuse(
            'AC002', at || 'queue',
            format('there is no queue %L: there %s %s', left(made.queue, 100),
                CASE cardinality(queues) WHEN 1 THEN 'is' ELSE 'are' END, array_to_string(queues, ', ')),
            'Take one of these, or make it: PUT /v1/queues/<name>.'
        );
    END IF;
    made.priority := aftercommit.checked_choice(
        CASE WHEN given ? 'priority' THEN given -> 'priority' ELSE to_jsonb(own_priority) END,
        at || 'priority', '{medium,high,low}'
    );

    value := nullif(given -> 'max_retries', 'null');
    IF value IS NOT NULL THEN
        IF aftercommit.checked_number(value, at || 'max_retries', 0, 1000) <> trunc(value::numeric) THEN
            PERFORM aftercommit.refuse('AC001', at || 'max_retries', 'is not a whole number');
        END IF;
        made.max_retries := value::integer;
    END IF;
    value := nullif(given -> 'timeout_seconds', 'null');
    IF value IS NOT NULL THEN
        made.timeout_seconds := aftercommit.checked_number(value, at || 'timeout_seconds', 0, 604800, true);
    END IF;
    value := nullif(given -> 'result_ttl_seconds', 'null');
    IF value IS NOT NULL THEN
        made.result_ttl_seconds :=
            aftercommit.checked_number(value, at || 'result_ttl_seconds', 0, longest_seconds, true);
    END IF;
    made.tags := aftercommit.checked_tags(given -> 'tags', at || 'tags');
    value := nullif(given -> 'retry', 'null');
    IF value IS NOT NULL THEN
        made.retry := aftercommit.checked_retry(value, at || 'retry');
    END IF;

    value := nullif(given -> 'run_at', 'null');
    delay := nullif(given -> 'delay_seconds', 'null');
    IF value IS NOT NULL THEN
        starts_at := aftercommit.checked_moment(value, at || 'run_at');
    END IF;
    IF delay IS NOT NULL THEN
        starts_at := moment + make_interval(
            secs => aftercommit.checked_number(delay, at || 'delay_seconds', 0, longest_seconds)::double precision
        );
        IF value IS NOT NULL THEN
            PERFORM aftercommit.refuse('AC001', at || 'delay_seconds', 'stands beside run_at: give one of them');
        END IF;
    END IF;
    -- Null: it is sent at once.
    made.due_at := CASE WHEN starts_at > moment THEN starts_at END;

    value := nullif(given -> 'expires_at', 'null');
    lifetime := nullif(given -> 'expires_in_seconds', 'null');
    IF value IS NOT NULL THEN
        deadline := at || 'expires_at';
        made.expires_at := aftercommit.checked_moment(value, deadline);
        IF lifetime IS NOT NULL THEN
            PERFORM aftercommit.refuse('AC001', deadline, 'stands beside expires_in_seconds: give one of them');
        END IF;
    ELSIF lifetime IS NOT NULL THEN
        deadline := at || 'expires_in_seconds';
        made.expires_at := moment + make_interval(
            secs => aftercommit.checked_number(lifetime, deadline, 0.001, longest_seconds)::double precision
        );
    END IF;
    IF made.expires_at <= moment THEN
        PERFORM aftercommit.refuse('AC001', deadline, 'has passed: a task with this deadline could never run');
    END IF;
    IF made.expires_at <= starts_at THEN
        PERFORM aftercommit.refuse(
            'AC001', deadline, format(
                'lies before the start that %s gives: the task could never run',
                CASE WHEN delay IS NULL THEN 'run_at' ELSE 'delay_seconds' END
            )
        );
    END IF;

    made.features := 0;
    value := nullif(given -> 'unique', 'null');
    IF value IS NOT NULL THEN
        made.uniqueness := aftercommit.checked_unique(value, at || 'unique', made.type, made.queue, payload);
        made.features := 1;
    END IF;
    RETURN made;
END
$$
