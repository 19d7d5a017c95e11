-- Who may do what: PUBLIC only asks who the primary is, pg_monitor reads, and changing is for superusers
-- and whom they grant it.
CREATE ROLE regress_ha_plain;
CREATE ROLE regress_ha_monitor IN ROLE pg_monitor;
CREATE ROLE regress_ha_operator;

SET ROLE regress_ha_plain;
SELECT ha_is_primary();
SELECT * FROM ha_primary();
SELECT count(*) FROM ha_status();
SELECT count(*) FROM ha_cluster_status();
SELECT count(*) FROM ha_link_status();
SELECT count(*) FROM ha_event_log();
SELECT count(*) FROM ha_slot_status();
SELECT count(*) FROM ha_cluster;
SELECT count(*) FROM ha_members;
SELECT count(*) FROM ha_links;
SELECT count(*) FROM ha_events;
SELECT count(*) FROM ha_slots;
SELECT ha_bootstrap();
SELECT ha_failover(accept_data_loss => true);
SHOW pg_ha.replication_conninfo;
SHOW pg_ha.secret_file;
SHOW pg_ha.state_directory;
SET pg_ha.fence_reads = error;
RESET pg_ha.fence_reads;
SET pg_ha.require_synchronous_commit = on;
RESET ROLE;

SET ROLE regress_ha_monitor;
SELECT count(*) FROM ha_cluster;
SELECT count(*) >= 0 AS readable FROM ha_members;
SELECT count(*) >= 0 AS readable FROM ha_links;
SELECT count(*) >= 0 AS readable FROM ha_events;
SELECT count(*) >= 0 AS readable FROM ha_slots;
SELECT ha_bootstrap();
SELECT ha_failover();
SELECT ha_switchover();
SELECT ha_pause();
SELECT ha_resume();
SELECT ha_remove_member('x');
RESET ROLE;

-- A superuser may delegate; nothing else is asked for.
SELECT has_function_privilege('regress_ha_operator', 'ha_bootstrap()', 'EXECUTE');
GRANT EXECUTE ON FUNCTION ha_bootstrap() TO regress_ha_operator;
SELECT has_function_privilege('regress_ha_operator', 'ha_bootstrap()', 'EXECUTE');
REVOKE EXECUTE ON FUNCTION ha_bootstrap() FROM regress_ha_operator;

DROP ROLE regress_ha_plain;
DROP ROLE regress_ha_monitor;
DROP ROLE regress_ha_operator;
