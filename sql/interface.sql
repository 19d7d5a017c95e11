-- The SQL interface: every object of the extension, its shape and its comment, and what it says on a
-- server that has the library but belongs to no cluster.
CREATE EXTENSION pg_ha;

-- The node worker writes its first report within moments of the server's start.
DO $$
BEGIN
    FOR i IN 1..1000 LOOP
        EXIT WHEN (SELECT reason NOT LIKE 'the node worker%' FROM ha_cluster);
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;

\dx+ pg_ha
\d ha_cluster
\d ha_members
\d ha_links
\d ha_events
\d ha_slots

-- Everything has a comment.
SELECT pg_describe_object(classid, objid, 0) AS without_comment
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_ha')
  AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
  AND obj_description(objid, classid::regclass::name) IS NULL
ORDER BY 1;

-- One row before there is a cluster, and no promise.
\x on
SELECT cluster_id, role, term, primary_name, primary_host, primary_port, quorum, voters, lease_left, sync_set,
       config_version, failover_possible, failover_reason = reason AS reason_is_given, hint <> '' AS hint_is_given
FROM ha_cluster;
\x off
SELECT ha_is_primary();
SELECT * FROM ha_primary();
SELECT count(*) FROM ha_links;
SELECT count(*) FROM ha_slots;

-- The fence does not apply: writing, notifying and preparing are stock.
CREATE TABLE written (id integer PRIMARY KEY);
INSERT INTO written VALUES (1);
BEGIN;
INSERT INTO written VALUES (2);
SAVEPOINT inner_one;
INSERT INTO written VALUES (3);
ROLLBACK TO inner_one;
COMMIT;
NOTIFY pg_ha_test;
SELECT count(*) FROM written;
DROP TABLE written;

-- Relocatable: the views go on working from another schema.
CREATE SCHEMA elsewhere;
ALTER EXTENSION pg_ha SET SCHEMA elsewhere;
SELECT count(*) FROM elsewhere.ha_cluster;
ALTER EXTENSION pg_ha SET SCHEMA public;
DROP SCHEMA elsewhere;
