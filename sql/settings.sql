-- Settings that cannot work are refused, with a hint.  Nothing here is accepted by ALTER SYSTEM, so the
-- server keeps its configuration.
SELECT name, context, vartype, unit, boot_val, min_val, max_val
FROM pg_settings WHERE name LIKE 'pg\_ha.%' ORDER BY name;

ALTER SYSTEM SET pg_ha.node_name = 'Bad Name';
ALTER SYSTEM SET pg_ha.node_name = '-begins-with-a-dash';
ALTER SYSTEM SET pg_ha.node_name = 'quote"inside';
ALTER SYSTEM SET pg_ha.node_name = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa';

ALTER SYSTEM SET pg_ha.peers = 'host:port';
ALTER SYSTEM SET pg_ha.peers = 'host:0';
ALTER SYSTEM SET pg_ha.peers = 'host:65536';
ALTER SYSTEM SET pg_ha.peers = '[::1:7432';

ALTER SYSTEM SET pg_ha.port = 0;
ALTER SYSTEM SET pg_ha.port = 65536;

ALTER SYSTEM SET pg_ha.replication_conninfo = 'postgresql://replicator@db1:5432/postgres';
-- Too long; and inside the data directory, however that is spelt.
\set ECHO none
\set VERBOSITY sqlstate
SELECT format('ALTER SYSTEM SET pg_ha.replication_conninfo = %L', 'user=' || repeat('r', 1020)) \gexec
SELECT format('ALTER SYSTEM SET pg_ha.state_directory = %L', path) FROM (VALUES
    (current_setting('data_directory') || '/state'),
    (replace(current_setting('data_directory'), '/', '//') || '/state'),
    (current_setting('data_directory') || '/../' || regexp_replace(current_setting('data_directory'), '.*/', '') || '/state')) AS v(path) \gexec
\set VERBOSITY default
\set ECHO all
ALTER SYSTEM SET pg_ha.state_directory = 'relative/path';
ALTER SYSTEM SET pg_ha.secret_file = 'relative/path';

ALTER SYSTEM SET pg_ha.lease_duration = '299ms';
ALTER SYSTEM SET pg_ha.lease_duration = '61s';
ALTER SYSTEM SET pg_ha.heartbeat_interval = '9ms';
ALTER SYSTEM SET pg_ha.heartbeat_interval = '20s';

ALTER SYSTEM SET pg_ha.max_lag_on_failover = '-1';
ALTER SYSTEM SET pg_ha.failover_priority = -1;
ALTER SYSTEM SET pg_ha.min_sync_standbys = 32;
ALTER SYSTEM SET pg_ha.retention_size = '-1MB';
ALTER SYSTEM SET pg_ha.retention_time = '-2s';

-- Not changeable in a session, except how long a fenced commit of one's own waits.
SET pg_ha.synchronous = off;
SET pg_ha.lease_duration = '5s';
SET pg_ha.fence_wait = '1s';
SHOW pg_ha.fence_wait;
SET pg_ha.fence_wait = '-1s';
RESET pg_ha.fence_wait;

-- A misspelt setting is noticed.
SET pg_ha.no_such_setting = 1;

-- What a session may choose about the fence, and what it may not.
SET pg_ha.fence_reads = error;
SHOW pg_ha.fence_reads;
SET pg_ha.fence_reads = fatal;
RESET pg_ha.fence_reads;
SET pg_ha.require_synchronous_commit = off;
