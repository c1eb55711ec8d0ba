-- What keeps ``given`` from fitting ``schema``: null, or where and what: {field, "is not a string"}. ``root`` has the
-- definitions that references name. These are the keywords that handlers' schemas are made of; ``pattern``, ``format``
-- and what else there is are left to the worker.
CREATE FUNCTION aftercommit.payload_flaw(given jsonb, schema jsonb, root jsonb, field text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kind constant text := jsonb_typeof(given);
    wanted text[];
    part record;
    matching integer;
    flaw text[];
BEGIN
    IF jsonb_typeof(schema) = 'boolean' THEN
        RETURN CASE WHEN schema = 'false' THEN ARRAY[field, 'is not known to the handler'] END;
    END IF;

    IF schema ? '$ref' THEN
        flaw := aftercommit.payload_flaw(
            given, coalesce(root #> string_to_array(ltrim(schema ->> '$ref', '#/'), '/'), 'true'), root, field
        );
        IF flaw IS NOT NULL THEN
            RETURN flaw;
        END IF;
    END IF;
    FOR part IN SELECT each.value AS option FROM jsonb_array_elements(schema -> 'allOf') AS each LOOP
        flaw := aftercommit.payload_flaw(given, part.option, root, field);
        IF flaw IS NOT NULL THEN
            RETURN flaw;
        END IF;
    END LOOP;
    IF schema ?| '{anyOf,oneOf}' THEN
        SELECT count(*) FILTER (WHERE aftercommit.payload_flaw(given, each.value, root, field) IS NULL) INTO matching
        FROM jsonb_array_elements(coalesce(schema -> 'anyOf', schema -> 'oneOf')) AS each;
        IF matching = 0 OR (matching > 1 AND NOT schema ? 'anyOf') THEN
            RETURN ARRAY[field, 'is none of what the handler takes there'];
        END IF;
    END IF;
    IF schema ? 'const' AND given <> schema -> 'const' THEN
        RETURN ARRAY[field, format('is not %s', schema -> 'const')];
    END IF;
    IF schema ? 'enum' AND NOT schema -> 'enum' @> jsonb_build_array(given) THEN
        RETURN ARRAY[field, format('is none of %s', schema -> 'enum')];
    END IF;

    IF schema ? 'type' THEN
        wanted := CASE jsonb_typeof(schema -> 'type')
            WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(schema -> 'type'))
            ELSE ARRAY[schema ->> 'type'] END;
        IF NOT (
            kind = ANY (wanted)
            OR (kind = 'number' AND 'integer' = ANY (wanted) AND trunc(given::numeric) = given::numeric)
        ) THEN
            RETURN ARRAY[field, format('is not of type %s', array_to_string(wanted, ' or '))];
        END IF;
    END IF;

    CASE kind
    WHEN 'number' THEN
        IF given < schema -> 'minimum' OR given <= schema -> 'exclusiveMinimum' THEN
            RETURN ARRAY[field, format('is below %s', coalesce(schema -> 'minimum', schema -> 'exclusiveMinimum'))];
        END IF;
        IF given > schema -> 'maximum' OR given >= schema -> 'exclusiveMaximum' THEN
            RETURN ARRAY[field, format('is above %s', coalesce(schema -> 'maximum', schema -> 'exclusiveMaximum'))];
        END IF;
        IF mod(given::numeric, nullif((schema ->> 'multipleOf')::numeric, 0)) <> 0 THEN
            RETURN ARRAY[field, format('is no multiple of %s', schema -> 'multipleOf')];
        END IF;
    WHEN 'string' THEN
        IF char_length(given #>> '{}') < (schema ->> 'minLength')::numeric THEN
            RETURN ARRAY[field, format('is shorter than %s characters', schema -> 'minLength')];
        END IF;
        IF char_length(given #>> '{}') > (schema ->> 'maxLength')::numeric THEN
            RETURN ARRAY[field, format('is longer than %s characters', schema -> 'maxLength')];
        END IF;
    WHEN 'array' THEN
        IF jsonb_array_length(given) < (schema ->> 'minItems')::numeric THEN
            RETURN ARRAY[field, format('has fewer than %s items', schema -> 'minItems')];
        END IF;
        IF jsonb_array_length(given) > (schema ->> 'maxItems')::numeric THEN
            RETURN ARRAY[field, format('has more than %s items', schema -> 'maxItems')];
        END IF;
        IF schema -> 'uniqueItems' = 'true' AND (
            SELECT count(*) <> count(DISTINCT each.value) FROM jsonb_array_elements(given) AS each
        ) THEN
            RETURN ARRAY[field, 'has an item twice'];
        END IF;
        IF schema ?| '{items,prefixItems}' THEN
            FOR part IN
                SELECT each.value AS item, each.n - 1 AS place,
                    coalesce(schema -> 'prefixItems' -> (each.n - 1)::integer, schema -> 'items', 'true') AS option
                FROM jsonb_array_elements(given) WITH ORDINALITY AS each (value, n)
            LOOP
                flaw := aftercommit.payload_flaw(part.item, part.option, root, field || '/' || part.place);
                IF flaw IS NOT NULL THEN
                    RETURN flaw;
                END IF;
            END LOOP;
        END IF;
    WHEN 'object' THEN
        SELECT each.name INTO part
        FROM jsonb_array_elements_text(schema -> 'required') AS each (name) WHERE NOT given ? each.name LIMIT 1;
        IF FOUND THEN
            RETURN ARRAY[field || '/' || part.name, 'is missing'];
        END IF;
        IF schema ?| '{properties,additionalProperties}' THEN
            FOR part IN
                SELECT each.key AS name, each.value AS item,
                    coalesce(schema -> 'properties' -> each.key, schema -> 'additionalProperties', 'true') AS option
                FROM jsonb_each(given) AS each
            LOOP
                flaw := aftercommit.payload_flaw(
                    part.item, part.option, root,
                    field || '/' || replace(replace(left(part.name, 200), '~', '~0'), '/', '~1')
                );
                IF flaw IS NOT NULL THEN
                    RETURN flaw;
                END IF;
            END LOOP;
        END IF;
    ELSE
        NULL;
    END CASE;
    RETURN NULL;
END
$$
