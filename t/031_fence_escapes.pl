# SPDX-License-Identifier: PostgreSQL
#
# Every statement of the table in docs/fence.md, on a primary without a majority: what could be taken
# for a promise is refused with 25006 or not answered, the rest leaves nothing that anybody relies on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaSession;
use Test::More;

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '100ms'\n"
    . "max_prepared_transactions = 10\nautovacuum_naptime = '1s'\n");
$cluster->start_all;
my $port = $cluster->node('london')->{port};
$cluster->sql('london', $_) for
    'CREATE SEQUENCE numbers',
    'CREATE TABLE locked (a int)',
    'CREATE TABLE other (a int, b serial)',
    'INSERT INTO other SELECT generate_series(1, 1000)',
    'CREATE TABLE busy (a int) WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0)',
    'CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM other',
    'CREATE PROCEDURE many() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO other VALUES (-i); COMMIT; END LOOP; END $$',
    'CREATE FUNCTION quiet() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify(\'news\', \'x\'); END $$',
    'SELECT nextval(\'numbers\')',
    'SELECT lo_create(4711)',
    'CHECKPOINT';

# Transactions that were under way when the majority went.
my %open = (
    'COMMIT' => [ 'INSERT INTO other VALUES (-10)', 'COMMIT' ],
    'END' => [ 'INSERT INTO other VALUES (-10)', 'END' ],
    'COMMIT AND CHAIN' => [ 'INSERT INTO other VALUES (-11)', 'COMMIT AND CHAIN' ],
    'RELEASE and COMMIT' => [ 'SAVEPOINT a', 'INSERT INTO other VALUES (-12)', 'RELEASE a', 'COMMIT' ],
    'PREPARE TRANSACTION' => [ 'INSERT INTO other VALUES (-13)', "PREPARE TRANSACTION 'late'" ],
    'COMMIT of a NOTIFY' => [ "NOTIFY news, 'x'", 'COMMIT' ],
    'COMMIT of pg_notify()' => [ 'SELECT quiet()', 'COMMIT' ],
    'COMMIT of nextval()' => [ "SELECT nextval('numbers')", 'COMMIT' ],
    'COMMIT of a logical message' => [ "SELECT pg_logical_emit_message(false, 'p', 'x') IS NULL", 'COMMIT' ],
    'COMMIT of SELECT FOR UPDATE' => [ 'SELECT count(*) FROM (SELECT FROM other WHERE a = 1 FOR UPDATE) AS x', 'COMMIT' ],
    'COMMIT of LOCK TABLE' => [ 'LOCK TABLE locked', 'COMMIT' ],
    'COMMIT of an xid' => [ 'SELECT pg_current_xact_id() IS NULL', 'COMMIT' ],
    'COMMIT of a large object' => [ "SELECT lowrite(lo_open(4711, 131072), 'x')", 'COMMIT' ],
    'COMMIT of a temporary table' => [ 'CREATE TEMP TABLE t (a int) ON COMMIT DROP', 'COMMIT' ],
    'COMMIT of a DDL' => [ 'CREATE TABLE late (a int)', 'COMMIT' ],
    'COMMIT of fence_reads = error' => [ 'SET LOCAL pg_ha.fence_reads = error', 'SELECT count(*) FROM ledger', 'COMMIT' ],
);
my %session;
for my $what (keys %open) {
    my @statements = @{ $open{$what} };
    $session{$what} = PgHaSession->new($cluster, "port=$port user=postgres");
    my $text = $session{$what}->ask(join '; ', 'BEGIN', @statements[ 0 .. $#statements - 1 ]);
    unlike($text, qr/ERROR/, "under way: $what");
}
my $reader = PgHaSession->new($cluster, "port=$port user=postgres");
is($reader->ask('SELECT count(*) FROM ledger'), '0', 'a session that reads');
my $deleter = PgHaSession->new($cluster, "port=$port user=postgres");
is($deleter->ask('BEGIN; INSERT INTO busy SELECT generate_series(1, 10000)'), '', 'a session that writes');
my $last_value = $cluster->sql('london', 'SELECT last_value FROM numbers');

$cluster->freeze($_) for qw(paris rome);
$cluster->poll('london', 'SELECT ha_is_primary()', 'f', 'the lease has ended');

for my $what (sort keys %open) {
    my $text = $session{$what}->ask($open{$what}[-1]);
    like($text, qr/ERROR:  25006/, "$what is refused with 25006");
    $session{$what}->leave;
}

my %refused = (
    'INSERT' => 'INSERT INTO other VALUES (-1)',
    'INSERT of nothing' => 'INSERT INTO other SELECT 1 WHERE false',
    'BEGIN READ WRITE' => 'BEGIN READ WRITE; INSERT INTO other VALUES (-1); COMMIT',
    'UPDATE' => 'UPDATE other SET a = a',
    'DELETE' => 'DELETE FROM other',
    'MERGE' => 'MERGE INTO other USING (SELECT 1 AS x) AS s ON a = x WHEN MATCHED THEN DELETE',
    'a writing WITH' => 'WITH gone AS (DELETE FROM other RETURNING a) SELECT count(*) FROM gone',
    'TRUNCATE' => 'TRUNCATE other',
    'COPY FROM' => "COPY other (a) FROM PROGRAM 'echo 1'",
    'SELECT FOR UPDATE' => 'SELECT a FROM other FOR UPDATE LIMIT 1',
    'LOCK TABLE' => 'BEGIN; LOCK TABLE other IN ACCESS EXCLUSIVE MODE; COMMIT',
    'nextval()' => "SELECT nextval('numbers')",
    'nextval() in a block' => "BEGIN; SELECT nextval('numbers'); COMMIT",
    'nextval() in PL/pgSQL' => "DO \$\$ DECLARE n bigint; BEGIN n := nextval('numbers'); END \$\$",
    'setval()' => "SELECT setval('numbers', 1000)",
    'NOTIFY' => "NOTIFY news, 'x'",
    'pg_notify()' => "SELECT pg_notify('news', 'x')",
    'pg_notify() in a function' => 'SELECT quiet()',
    'pg_logical_emit_message(true)' => "SELECT pg_logical_emit_message(true, 'p', 'x')",
    'pg_logical_emit_message(false)' => "SELECT pg_logical_emit_message(false, 'p', 'x')",
    'lo_create()' => 'SELECT lo_create(4712)',
    'lo_unlink()' => 'SELECT lo_unlink(4711)',
    'lo_import by fast path' => '\lo_import /etc/hostname',
    'pg_current_xact_id()' => 'SELECT pg_current_xact_id()',
    'CREATE TABLE' => 'CREATE TABLE late (a int)',
    'CREATE TABLE AS' => 'CREATE TABLE late AS SELECT 1',
    'an unlogged table' => 'CREATE UNLOGGED TABLE late (a int)',
    'CREATE TEMP TABLE' => 'CREATE TEMP TABLE late (a int)',
    'CREATE ROLE' => 'CREATE ROLE late',
    'GRANT' => 'GRANT SELECT ON other TO pg_monitor',
    'COMMENT' => "COMMENT ON TABLE other IS 'x'",
    'CREATE DATABASE' => 'CREATE DATABASE late',
    'CREATE DATABASE by files' => 'CREATE DATABASE late STRATEGY file_copy',
    'DROP DATABASE' => 'DROP DATABASE template1',
    'REFRESH MATERIALIZED VIEW' => 'REFRESH MATERIALIZED VIEW seen',
    'CREATE INDEX' => 'CREATE INDEX ON other (a)',
    'CREATE INDEX CONCURRENTLY' => 'CREATE INDEX CONCURRENTLY ON other (a)',
    'REINDEX' => 'REINDEX TABLE ledger',
    'VACUUM' => 'VACUUM other',
    'VACUUM FULL' => 'VACUUM FULL other',
    'CLUSTER' => 'CLUSTER ledger USING ledger_pkey',
    'ANALYZE' => 'ANALYZE other',
    'a procedure that commits' => 'CALL many()',
    'a DO loop that commits' => 'DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO other VALUES (-1); COMMIT; END LOOP; END $$',
    'a caught refusal' => 'BEGIN; DO $$ BEGIN PERFORM pg_current_xact_id(); INSERT INTO other VALUES (-1); '
        . 'EXCEPTION WHEN read_only_sql_transaction THEN NULL; END $$; COMMIT',
    'a subtransaction' => 'BEGIN; SAVEPOINT a; INSERT INTO other VALUES (-1); RELEASE a; COMMIT',
    'EXECUTE' => 'PREPARE p AS INSERT INTO other VALUES (-1); EXECUTE p',
    'EXPLAIN ANALYZE' => 'EXPLAIN ANALYZE INSERT INTO other VALUES (-1)',
    'synchronous_commit = off' => 'SET synchronous_commit = off; INSERT INTO other VALUES (-1)',
    'fence_reads = error' => 'SET pg_ha.fence_reads = error; SELECT count(*) FROM ledger',
    'fence_reads = error, COPY TO' => 'SET pg_ha.fence_reads = error; COPY ledger TO STDOUT',
);
my $wal = $cluster->sql('london', 'SELECT pg_current_wal_insert_lsn()');
for my $what (sort keys %refused) {
    my ($status, undef, $error) = $cluster->try_sql('london', $refused{$what}, 10);
    ok($status != 0 && $error =~ /25006/, "$what is refused with 25006") or diag("status $status: $error");
}
my $written = $cluster->sql('london', "SELECT pg_current_wal_insert_lsn() - '$wal'");
cmp_ok($written, '<', 2_000_000, "refusing early writes little WAL ($written bytes; a database takes 4 MB)");

# Harmless: nobody else is promised anything.
my %allowed = (
    'SELECT' => 'SELECT count(*) FROM other',
    'SELECT 1 with fence_reads = error' => 'SET pg_ha.fence_reads = error; SELECT 1',
    'status with fence_reads = error' => 'SET pg_ha.fence_reads = error; SELECT lease_left FROM ha_cluster',
    'catalogs with fence_reads = error' => 'SET pg_ha.fence_reads = error; SELECT count(*) FROM pg_class',
    'a parallel SELECT' => 'SET force_parallel_mode = on; SELECT count(*) FROM other',
    'SHOW' => 'SHOW pg_ha.fence_reads',
    'an empty transaction' => 'BEGIN; COMMIT',
    'ROLLBACK' => 'BEGIN; SELECT pg_current_xact_id(); ROLLBACK',
    'currval-like reading of a sequence' => 'SELECT last_value FROM numbers',
    'CHECKPOINT' => 'CHECKPOINT',
    'pg_switch_wal()' => 'SELECT pg_switch_wal()',
    'pg_create_restore_point()' => "SELECT pg_create_restore_point('here')",
    'a physical slot' => "SELECT pg_create_physical_replication_slot('mine', true)",
    'its end' => "SELECT pg_drop_replication_slot('mine')",
    'LISTEN' => 'LISTEN news',
    'ALTER SYSTEM' => "ALTER SYSTEM SET log_min_duration_statement = '10s'",
    'EXPLAIN' => 'EXPLAIN INSERT INTO ledger VALUES (-1, 0)',
    'DECLARE CURSOR' => 'BEGIN; DECLARE c CURSOR FOR SELECT a FROM other; FETCH c; COMMIT',
);
for my $what ('a physical slot', sort grep { $_ ne 'a physical slot' } keys %allowed) {
    my ($status, undef, $error) = $cluster->try_sql('london', $allowed{$what}, 10);
    is($status, 0, "$what is allowed") or diag($error);
}
is($reader->ask('SELECT count(*) FROM ledger'), '0', 'the session that reads goes on');

# Autovacuum answers nobody.  Cutting off the empty end of a table takes an xid.
my $from = $cluster->log_size('london');
$deleter->ask('ROLLBACK');
$cluster->poll('london', "SELECT autovacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'busy'", 't', 'autovacuum goes on');
$cluster->poll('london', "SELECT pg_relation_size('busy')", '0', 'and cuts off empty pages');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 'f', 'still fenced');
unlike($cluster->log_text('london', $from), qr/autovacuum worker: ERROR/, 'without an error in the log');

is($cluster->sql('london', 'SELECT count(*) FILTER (WHERE a < 0), count(*) FROM other'), '0|1000', 'nothing was written');
is($cluster->sql('london', 'SELECT last_value FROM numbers'), $last_value, 'no number was taken from the sequence');
is($cluster->sql('london', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing was prepared');
unlike($cluster->log_text('london'), qr/PANIC|terminating any other active/, 'no process fell over it');

$cluster->thaw($_) for qw(paris rome);
my $primary = $cluster->wait_primary;
$cluster->sql($primary, 'INSERT INTO other VALUES (-2)');
is($cluster->sql($primary, 'SELECT string_agg(a::text, \' \') FROM other WHERE a < 0'), '-2', 'with a majority it goes on');
done_testing();
