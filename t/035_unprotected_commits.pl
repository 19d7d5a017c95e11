# SPDX-License-Identifier: PostgreSQL
#
# Sessions that ask for less than the quorum: they are counted, and refused where that is wanted.  Among them
# are apply workers, whose publisher forgets what they report: a fenced one reports nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaSession;
use Test::More;

my $cluster = PgHaCluster->new(settings => "wal_level = logical\nmax_prepared_transactions = 10\n"
    . "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '100ms'\nwal_retrieve_retry_interval = '100ms'\n");
$cluster->start_all;
my $port = $cluster->node('london')->{port};
my $next = 1;
sub counted { return $cluster->sql('london', 'SELECT unprotected_commits FROM ha_cluster'); }
sub insert { return "INSERT INTO ledger VALUES (" . $next++ . ', 0)'; }

my $before = counted();
for my $level (qw(on remote_apply)) { $cluster->sql('london', "SET synchronous_commit = $level; " . insert()); }
$cluster->sql('london', "SET synchronous_commit = off; SELECT count(*) FROM ledger");
$cluster->sql('london', "SET synchronous_commit = off; BEGIN; " . insert() . '; ROLLBACK');
is(counted(), $before, 'nothing to count');
for my $level (qw(remote_write local off)) { $cluster->sql('london', "SET synchronous_commit = $level; " . insert()); }
$cluster->sql('london', 'BEGIN; SET LOCAL synchronous_commit = local; ' . insert() . '; COMMIT');
is(counted(), $before + 4, 'four commits that waited for less');
$cluster->sql('london', 'SET synchronous_commit = off; BEGIN; ' . insert() . "; PREPARE TRANSACTION 'mine'");
{
    local $ENV{PGOPTIONS} = '-c synchronous_commit=off';
    $cluster->sql('london', "COMMIT PREPARED 'mine'");
}
is(counted(), $before + 6, 'prepared transactions count at both ends');

# A subscription has synchronous_commit = off.
$cluster->sql('london', 'CREATE DATABASE source');
my $source = PgHaSession->new($cluster, "port=$port user=postgres dbname=source");
$source->ask($_) for 'CREATE TABLE news (id int PRIMARY KEY)', 'CREATE PUBLICATION news FOR TABLE news';
$source->ask(q{SELECT pg_create_logical_replication_slot('news', 'pgoutput')});
$cluster->sql('london', 'CREATE TABLE news (id int PRIMARY KEY)');
$cluster->sql('london', "CREATE SUBSCRIPTION news CONNECTION 'host=127.0.0.1 port=$port user=postgres dbname=source' "
    . "PUBLICATION news WITH (create_slot = false, slot_name = 'news', copy_data = false)");
$before = counted();
$source->ask('INSERT INTO news VALUES (1)');
$cluster->poll('london', 'SELECT count(*) FROM news', '1', 'an apply worker works');
$cluster->poll('london', "SELECT unprotected_commits > $before FROM ha_cluster", 't', 'and its commit was counted');

# Refused.
my $log = $cluster->log_size('london');
PgHaCluster::append($cluster->data($_) . '/postgresql.conf', "pg_ha.require_synchronous_commit = on\n") for $cluster->names;
kill 'HUP', map { $cluster->postmaster($_) } $cluster->names;
$cluster->poll('london', 'SHOW pg_ha.require_synchronous_commit', 'on', 'the cluster wants synchronous commits');
my %refused = (
    'local' => 'SET synchronous_commit = local; ' . insert(),
    'remote_write' => 'SET synchronous_commit = remote_write; ' . insert(),
    'off' => 'SET synchronous_commit = off; ' . insert(),
    'SET LOCAL' => 'BEGIN; SET LOCAL synchronous_commit = off; ' . insert() . '; COMMIT',
    'PREPARE TRANSACTION' => 'SET synchronous_commit = off; BEGIN; ' . insert() . "; PREPARE TRANSACTION 'mine'",
);
$cluster->sql('london', 'BEGIN; ' . insert() . "; PREPARE TRANSACTION 'protected'");
$refused{$_} = "$_ 'protected'" for 'COMMIT PREPARED', 'ROLLBACK PREPARED';
$before = counted();
for my $what (sort keys %refused) {
    local $ENV{PGOPTIONS} = '-c synchronous_commit=off';
    my ($status, undef, $error) = $cluster->try_sql('london', $refused{$what});
    ok($status != 0 && $error =~ /ERROR:  HA005: synchronous_commit = \w+ is not allowed.*HINT/s, "$what is refused") or diag($error);
}
$cluster->sql('london', "COMMIT PREPARED 'protected'");
$cluster->sql('london', insert());
$source->ask('INSERT INTO news VALUES (2)');
$cluster->wait_log('london', qr/logical replication worker: ERROR:  synchronous_commit = off is not allowed/, 'so is an apply worker', $log);
is(counted(), $before, 'nothing was counted');
$cluster->sql('london', 'ALTER SUBSCRIPTION news SET (synchronous_commit = on)');
$cluster->poll('london', 'SELECT count(*) FROM news', '2', 'with synchronous_commit = on it goes on');

# Without a lease an apply worker commits nothing and reports nothing.
my $gate = PgHaSession->new($cluster, "port=$port user=postgres");
$gate->ask('BEGIN; LOCK TABLE news');
$source->ask('INSERT INTO news VALUES (3)');
my $end = $source->ask('SELECT pg_current_wal_insert_lsn()');
$cluster->poll('london', q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'news'::regclass}, '1', 'the apply worker waits for a table');
$cluster->freeze($_) for qw(paris rome);
$cluster->poll('london', 'SELECT ha_is_primary()', 'f', 'the lease has ended');
$log = $cluster->log_size('london');
$gate->ask('ROLLBACK');
$cluster->wait_log('london', qr/logical replication worker: ERROR:  cannot commit: the lease of this primary has ended/, 'its commit is refused', $log);
is($cluster->sql('london', "SELECT confirmed_flush_lsn < '$end' FROM pg_replication_slots WHERE slot_name = 'news'"), 't',
    'and its publisher has been told nothing');
is($cluster->sql('london', 'SELECT count(*) FROM news'), '2', 'nothing was written');
$cluster->thaw($_) for qw(paris rome);
$cluster->poll('london', 'SELECT count(*) FROM news', '3', 'with a lease it goes on');
done_testing();
