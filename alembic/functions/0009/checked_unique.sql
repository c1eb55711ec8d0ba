-- A unique key, as ``tasks.uniqueness`` keeps it. The hash is that of ``server/submission/unique_key.py``.
CREATE FUNCTION aftercommit.checked_unique(given jsonb, field text, type text, queue text, payload jsonb) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    longest_seconds constant numeric := 100 * 366 * 86400::bigint;
    name jsonb;
    names jsonb;
    held_while jsonb;
    for_seconds jsonb;
    at_most_seconds jsonb;
    scope text;
    on_conflict text;
    made_of text;
BEGIN
    PERFORM aftercommit.check_fields(
        given, field, '{key,fields,scope,while,for_seconds,on_conflict,at_most_seconds}'
    );
    name := nullif(given -> 'key', 'null');
    names := nullif(given -> 'fields', 'null');
    held_while := nullif(given -> 'while', 'null');
    for_seconds := nullif(given -> 'for_seconds', 'null');
    at_most_seconds := nullif(given -> 'at_most_seconds', 'null');
    scope := aftercommit.checked_choice(given -> 'scope', field || '/scope', '{type,queue,global}');
    on_conflict := aftercommit.checked_choice(
        given -> 'on_conflict', field || '/on_conflict', '{return_existing,reject,replace}'
    );
    PERFORM aftercommit.checked_choice(held_while, field || '/while', '{unfinished,waiting}');
    IF for_seconds IS NOT NULL THEN
        PERFORM aftercommit.checked_number(for_seconds, field || '/for_seconds', 0, longest_seconds, true);
        IF held_while IS NOT NULL THEN
            PERFORM aftercommit.refuse('AC001', field || '/for_seconds', 'stands beside while: give one of them');
        END IF;
    END IF;
    IF at_most_seconds IS NOT NULL THEN
        PERFORM aftercommit.checked_number(at_most_seconds, field || '/at_most_seconds', 0, longest_seconds, true);
        IF on_conflict <> 'replace' THEN
            PERFORM aftercommit.refuse('AC001', field || '/at_most_seconds', 'goes with on_conflict replace only');
        END IF;
    END IF;
    IF name IS NULL AND names IS NULL THEN
        PERFORM aftercommit.refuse('AC001', field, 'give key or fields');
    END IF;
    IF name IS NOT NULL THEN
        IF jsonb_typeof(name) <> 'string' OR length(name #>> '{}') NOT BETWEEN 1 AND 500 THEN
            PERFORM aftercommit.refuse('AC001', field || '/key', 'is not a text of 1 to 500 characters');
        END IF;
        IF names IS NOT NULL THEN
            PERFORM aftercommit.refuse('AC001', field || '/fields', 'stands beside key: give one of them');
        END IF;
        made_of := '"key":' || aftercommit.ascii_json(name #>> '{}');
    ELSE
        made_of := aftercommit.unique_fields(names, field || '/fields', payload);
    END IF;
    RETURN json_build_object(
        'hash', encode(
            sha256(
                convert_to(
                    format(
                        '["unique",["%s",%s,%s,{%s}]]', scope,
                        CASE scope
                            WHEN 'type' THEN aftercommit.ascii_json(type)
                            WHEN 'queue' THEN aftercommit.ascii_json(queue)
                            ELSE 'null'
                        END,
                        CASE WHEN name IS NULL THEN 'false' ELSE 'true' END, made_of
                    ),
                    'UTF8'
                )
            ),
            'hex'
        ),
        'key', name, 'fields', names, 'scope', scope,
        'while', CASE WHEN for_seconds IS NULL THEN coalesce(held_while #>> '{}', 'unfinished') END,
        'for_seconds', for_seconds
    );
END
$$
