-- Reads what the server is and as whom we are in it. Works without the schema.
SELECT
    current_setting('server_version_num')::integer, current_setting('server_version'),
    current_user::text
