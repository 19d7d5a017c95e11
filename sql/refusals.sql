-- What a server says that cannot take part.  Without a node name it is passive, and ha_bootstrap() names
-- the missing setting; refusals_1.out is for a server that has one (there ha_bootstrap() would succeed,
-- so it is not called).
SELECT setting = '' AS unnamed FROM pg_settings WHERE name = 'pg_ha.node_name' \gset
SELECT reason, hint FROM ha_cluster;
\if :unnamed
    SELECT ha_bootstrap();
    \set VERBOSITY sqlstate
    SELECT ha_bootstrap();
    \set VERBOSITY default
\endif

-- A failover needs a standby of a cluster.
\set VERBOSITY sqlstate
SELECT ha_failover();
SELECT ha_failover('nobody', true);
SELECT ha_switchover();
SELECT ha_pause();
SELECT ha_resume();
SELECT ha_remove_member('x');
\set VERBOSITY default

-- Loading the library by hand into a server that preloads it changes nothing.
LOAD 'pg_ha';
SELECT count(*) FROM ha_cluster;

DROP EXTENSION pg_ha;
SELECT count(*) FROM pg_proc WHERE proname LIKE 'ha\_%';
