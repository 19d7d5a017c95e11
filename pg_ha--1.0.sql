/* SQL interface of pg_ha.  The workers run without it; it only shows what they know and passes wishes on.
   Everything reads shared memory, so it works on every member, in recovery too.
   Reading: pg_monitor.  Changing: superusers, and whom they grant EXECUTE.  PUBLIC: ha_is_primary() and ha_primary(). */

\echo Use "CREATE EXTENSION pg_ha" to load this file. \quit

-- ---- for everybody -------------------------------------------------------------------------------

CREATE FUNCTION ha_is_primary() RETURNS boolean
    AS 'MODULE_PATHNAME', 'ha_is_primary' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ha_is_primary() IS
    'Is this server the primary of its cluster, and may it acknowledge commits at this moment?';

CREATE FUNCTION ha_primary(OUT name text, OUT host text, OUT port integer) RETURNS record
    AS 'MODULE_PATHNAME', 'ha_primary' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ha_primary() IS
    'The primary as far as this server knows, and where its postmaster listens; nulls if none is known';

-- ---- status --------------------------------------------------------------------------------------

CREATE FUNCTION ha_status(
    OUT name text, OUT kind text, OUT role text, OUT liveness text,
    OUT is_primary boolean, OUT is_self boolean, OUT voter boolean, OUT in_sync_set boolean, OUT priority integer,
    OUT term bigint, OUT timeline bigint, OUT lsn pg_lsn, OUT replayed_lsn pg_lsn,
    OUT lag_bytes bigint, OUT lag interval, OUT streaming boolean, OUT in_recovery boolean, OUT last_heard interval,
    OUT postgres_host text, OUT postgres_port integer, OUT peer_host text, OUT peer_port integer,
    OUT node_id text, OUT incarnation bigint, OUT reason text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'ha_status' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 5;
COMMENT ON FUNCTION ha_status() IS 'One row per member of the cluster, as this server sees it';

CREATE FUNCTION ha_cluster_status(
    OUT cluster_id text, OUT node_name text, OUT role text, OUT term bigint,
    OUT primary_name text, OUT primary_host text, OUT primary_port integer,
    OUT quorum boolean, OUT members integer, OUT voters integer, OUT lease_left interval,
    OUT synchronous boolean, OUT sync_set text, OUT write_quorum integer, OUT unprotected_commits bigint,
    OUT config_version text, OUT config_in_force boolean, OUT paused boolean,
    OUT failover_possible boolean, OUT failover_reason text, OUT reason text, OUT hint text) RETURNS record
    AS 'MODULE_PATHNAME', 'ha_cluster_status' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION ha_cluster_status() IS 'The row of the view ha_cluster';

CREATE FUNCTION ha_link_status(
    OUT from_node text, OUT to_node text, OUT rtt interval, OUT last_heard interval, OUT missed integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'ha_link_status' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 20;
COMMENT ON FUNCTION ha_link_status() IS 'The rows of the view ha_links';

CREATE FUNCTION ha_event_log(
    OUT number bigint, OUT at timestamp with time zone, OUT from_role text, OUT to_role text,
    OUT term bigint, OUT timeline bigint, OUT lsn pg_lsn, OUT reason text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'ha_event_log' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION ha_event_log() IS 'The rows of the view ha_events';

CREATE FUNCTION ha_slot_status(
    OUT member text, OUT slot_name text, OUT state text, OUT lsn pg_lsn, OUT bytes bigint, OUT limit_bytes bigint,
    OUT away_since timestamp with time zone, OUT away interval, OUT limit_time interval, OUT reason text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'ha_slot_status' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 5;
COMMENT ON FUNCTION ha_slot_status() IS 'The rows of the view ha_slots';

CREATE VIEW ha_cluster AS SELECT * FROM ha_cluster_status();
COMMENT ON VIEW ha_cluster IS 'The cluster in one row: who leads, who decides, whether a failover is possible, and why not';
COMMENT ON COLUMN ha_cluster.quorum IS 'This server hears a majority of the voters';
COMMENT ON COLUMN ha_cluster.lease_left IS 'How long this server may still acknowledge commits without hearing a majority; zero: fenced';
COMMENT ON COLUMN ha_cluster.sync_set IS 'Members whose flush counts for a commit';
COMMENT ON COLUMN ha_cluster.write_quorum IS 'How many members of the sync set, the primary included, must have flushed a commit';
COMMENT ON COLUMN ha_cluster.unprotected_commits IS 'Commits since this server was started whose sessions asked for less than the quorum';
COMMENT ON COLUMN ha_cluster.config_in_force IS 'A majority of the voters has stored this configuration';
COMMENT ON COLUMN ha_cluster.reason IS 'Why this server is what it is';
COMMENT ON COLUMN ha_cluster.hint IS 'What to do about it';

CREATE VIEW ha_members AS SELECT * FROM ha_status();
COMMENT ON VIEW ha_members IS 'One row per member of the cluster, as this server sees it';
COMMENT ON COLUMN ha_members.lag_bytes IS 'WAL behind the primary''s flushed position';
COMMENT ON COLUMN ha_members.lag IS 'Age of the newest transaction replayed, while there is more to replay';
COMMENT ON COLUMN ha_members.last_heard IS 'Time since this server last heard the member directly';

CREATE VIEW ha_links AS SELECT * FROM ha_link_status();
COMMENT ON VIEW ha_links IS 'Who hears whom: round-trip time, when last heard, heartbeats missed in a row';

CREATE VIEW ha_events AS SELECT * FROM ha_event_log();
COMMENT ON VIEW ha_events IS 'The last 256 decisions of this server since it was started, oldest first, each with its reason';

CREATE VIEW ha_slots AS SELECT * FROM ha_slot_status();
COMMENT ON VIEW ha_slots IS 'What WAL this server keeps for each of the other data nodes, how much, and up to which limit';
COMMENT ON COLUMN ha_slots.state IS
    'following; holding: it does not stream; dropped: beyond a limit, it has to be cloned again; none: see reason';
COMMENT ON COLUMN ha_slots.lsn IS 'WAL is kept from here on';
COMMENT ON COLUMN ha_slots.bytes IS 'WAL that the member lacks';
COMMENT ON COLUMN ha_slots.limit_bytes IS 'pg_ha.retention_size, or what max_slot_wal_keep_size or the disk leave of it';
COMMENT ON COLUMN ha_slots.away_since IS 'Since when this server has not seen it streaming; null: it does';
COMMENT ON COLUMN ha_slots.limit_time IS 'pg_ha.retention_time; null: no limit';

-- ---- changing ------------------------------------------------------------------------------------

CREATE FUNCTION ha_bootstrap() RETURNS text
    AS 'MODULE_PATHNAME', 'ha_bootstrap' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ha_bootstrap() IS 'Makes this server the primary of a new cluster of one; servers cloned from it join';

CREATE FUNCTION ha_failover(target text DEFAULT NULL, accept_data_loss boolean DEFAULT false) RETURNS text
    AS 'MODULE_PATHNAME', 'ha_failover' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ha_failover(text, boolean) IS
    'Makes this standby the primary although no election can be won, because the others are gone for good; can lose data';

CREATE FUNCTION ha_switchover(target text DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME', 'ha_switchover' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ha_switchover(text) IS
    'On the primary: hands over to this standby, by default the best, and becomes a standby itself; nothing is lost';

CREATE FUNCTION ha_pause() RETURNS text
    AS 'MODULE_PATHNAME', 'ha_pause' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ha_pause() IS 'On the primary: no automatic failover until ha_resume()';

CREATE FUNCTION ha_resume() RETURNS text
    AS 'MODULE_PATHNAME', 'ha_resume' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ha_resume() IS 'On the primary: ends what ha_pause() began';

CREATE FUNCTION ha_remove_member(name text) RETURNS text
    AS 'MODULE_PATHNAME', 'ha_remove_member' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION ha_remove_member(text) IS 'On the primary: forgets a member that is gone for good';

-- ---- privileges ----------------------------------------------------------------------------------

REVOKE ALL ON FUNCTION ha_status(), ha_cluster_status(), ha_link_status(), ha_event_log(), ha_slot_status(), ha_bootstrap(), ha_failover(text, boolean),
    ha_switchover(text), ha_pause(), ha_resume(), ha_remove_member(text) FROM PUBLIC;
REVOKE ALL ON ha_cluster, ha_members, ha_links, ha_events, ha_slots FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ha_status(), ha_cluster_status(), ha_link_status(), ha_event_log(), ha_slot_status() TO pg_monitor;
GRANT SELECT ON ha_cluster, ha_members, ha_links, ha_events, ha_slots TO pg_monitor;
