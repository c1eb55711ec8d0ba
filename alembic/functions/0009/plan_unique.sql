-- What tasks with unique keys come to, once their keys are locked; ``taken`` are those that had no row. Of ``wanted``
-- those that are not to be made get the status 'existing'. ``replacements`` take the place of waiting holders, whose
-- ids they have. ``answers`` are the ids to return, in the order of ``given``. As ``server/submission/unique_plan.py``.
CREATE FUNCTION aftercommit.plan_unique(
    given jsonb, kind text, moment timestamptz, taken bytea[],
    INOUT wanted aftercommit.tasks[], OUT replacements aftercommit.tasks[], OUT answers uuid[]
)
LANGUAGE plpgsql AS $$
DECLARE
    each record;
    held record;
    current_key bytea;
    maker integer;
    holder uuid;
    held_since timestamptz;
    locked uuid[];
    content aftercommit.tasks;
    last integer;
BEGIN
    answers := ARRAY(SELECT t.id FROM unnest(wanted) WITH ORDINALITY AS t ORDER BY t.ordinality);
    replacements := '{}';
    SELECT coalesce(array_agg(waiting.id), '{}') INTO locked FROM (
        SELECT t.id FROM aftercommit.unique_keys AS k JOIN aftercommit.tasks AS t ON t.id = k.task_id
        WHERE k.key = ANY (ARRAY(
                SELECT decode(w.uniqueness ->> 'hash', 'hex') FROM unnest(wanted) WITH ORDINALITY AS w
                WHERE given -> (w.ordinality - 1)::integer -> 'unique' ->> 'on_conflict' = 'replace'
            ))
            AND k.key <> ALL (taken)
            AND t.status IN ('scheduled', 'queued', 'retrying')
            AND aftercommit.is_held(k.held_while, k.held_until, t.status, t.expires_at, moment)
        ORDER BY t.id FOR NO KEY UPDATE OF t
    ) AS waiting;
    FOR each IN
        SELECT t.ordinality::integer AS n, t.id, decode(t.uniqueness ->> 'hash', 'hex') AS key, t.uniqueness,
            given -> (t.ordinality - 1)::integer -> 'unique' ->> 'on_conflict' AS on_conflict,
            make_interval(
                secs => (given -> (t.ordinality - 1)::integer -> 'unique' ->> 'at_most_seconds')::double precision
            ) AS at_most
        FROM unnest(wanted) WITH ORDINALITY AS t
        WHERE t.uniqueness IS NOT NULL
        ORDER BY t.uniqueness ->> 'hash', t.ordinality
    LOOP
        content := wanted[each.n];
        IF each.key IS DISTINCT FROM current_key THEN
            current_key := each.key;
            maker := NULL;
            SELECT t.id, k.held_since INTO held
            FROM aftercommit.unique_keys AS k JOIN aftercommit.tasks AS t ON t.id = k.task_id
            WHERE k.key = each.key
                AND aftercommit.is_held(k.held_while, k.held_until, t.status, t.expires_at, moment);
            IF NOT FOUND THEN
                maker := each.n;
                holder := each.id;
                IF each.key <> ALL (taken) THEN
                    UPDATE aftercommit.unique_keys AS k
                    SET task_id = each.id, held_since = moment,
                        held_while = coalesce(each.uniqueness ->> 'while', 'for_seconds'),
                        held_until = moment
                            + make_interval(secs => (each.uniqueness ->> 'for_seconds')::double precision)
                    WHERE k.key = each.key;
                END IF;
                content.due_at := aftercommit.due_at_most(content.due_at, moment + each.at_most, moment);
                wanted[each.n] := content;
                CONTINUE;
            END IF;
            holder := held.id;
            held_since := held.held_since;
        END IF;
        IF each.on_conflict = 'reject' THEN
            PERFORM aftercommit.refuse(
                'AC004', CASE kind WHEN 'batch' THEN format('tasks/%s/unique', each.n - 1) ELSE 'unique' END,
                CASE WHEN maker IS NULL THEN format('task %s holds this key', holder)
                    ELSE 'another task of this call has this key' END,
                'Submit it when that task has ended, or with another on_conflict.'
            );
        END IF;
        answers[each.n] := holder;
        IF each.on_conflict = 'replace' AND maker IS NOT NULL THEN
            content.id := holder;
            content.uniqueness := (wanted[maker]).uniqueness;
            content.due_at := aftercommit.due_at_most(content.due_at, moment + each.at_most, moment);
            wanted[maker] := content;
        ELSIF each.on_conflict = 'replace' AND holder = ANY (locked) THEN
            content.id := holder;
            content.due_at := aftercommit.due_at_most(content.due_at, held_since + each.at_most, moment);
            -- Keys come one after the other: an earlier replacement of the same task is the last one.
            last := cardinality(replacements);
            IF (replacements[last]).id IS DISTINCT FROM holder THEN
                last := last + 1;
            END IF;
            replacements[last] := content;
        END IF;
        content := wanted[each.n];
        content.status := 'existing';
        wanted[each.n] := content;
    END LOOP;
END
$$
