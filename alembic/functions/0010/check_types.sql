-- Refuses tasks whose type no worker has declared, or whose payload does not fit what it declared.
CREATE FUNCTION aftercommit.check_types(wanted aftercommit.tasks[], kind text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    task record;
    flaw text[];
BEGIN
    FOR task IN
        SELECT t.type, t.payload::jsonb AS payload, d.type IS NOT NULL AS is_known, d.schema::jsonb AS schema,
            CASE kind WHEN 'batch' THEN format('tasks/%s/', t.ordinality - 1) ELSE '' END AS at
        FROM unnest(wanted) WITH ORDINALITY AS t LEFT JOIN aftercommit.task_types AS d ON d.type = t.type
        ORDER BY t.ordinality
    LOOP
        IF NOT task.is_known THEN
            PERFORM aftercommit.refuse(
                'AC007', task.at || 'type', format('no worker has declared %L', task.type),
                'Start a worker that has a handler of this type, or set SCHEMA_CHECK to warn.'
            );
        END IF;
        CONTINUE WHEN task.schema IS NULL;
        flaw := aftercommit.payload_flaw(task.payload, task.schema, task.schema, task.at || 'payload');
        IF flaw IS NOT NULL THEN
            PERFORM aftercommit.refuse(
                'AC007', flaw[1], flaw[2], format('See what %s takes: GET /v1/types/%s.', task.type, task.type)
            );
        END IF;
    END LOOP;
END
$$
