-- A text in JSON as Python writes it, all of it ASCII: both ways in must make the same hash of a unique key.
CREATE FUNCTION aftercommit.ascii_json(given text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF given !~ '[^ -~]' AND strpos(given, '"') = 0 AND strpos(given, '\') = 0 THEN
        RETURN '"' || given || '"';
    END IF;
    RETURN '"' || (
        SELECT string_agg(
            CASE
                WHEN code = 34 THEN '\"'
                WHEN code = 92 THEN '\\'
                WHEN code = 8 THEN '\b'
                WHEN code = 9 THEN '\t'
                WHEN code = 10 THEN '\n'
                WHEN code = 12 THEN '\f'
                WHEN code = 13 THEN '\r'
                WHEN code BETWEEN 32 AND 126 THEN chr(code)
                WHEN code < 65536 THEN '\u' || lpad(to_hex(code), 4, '0')
                ELSE '\u' || to_hex(55296 + (code - 65536) / 1024) || '\u' || to_hex(56320 + (code - 65536) % 1024)
            END,
            '' ORDER BY n
        )
        FROM (SELECT n, ascii(substr(given, n, 1)) AS code FROM generate_series(1, length(given)) AS n) AS characters
    ) || '"';
END
$$
