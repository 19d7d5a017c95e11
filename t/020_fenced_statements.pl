# SPDX-License-Identifier: PostgreSQL
#
# A primary without a majority, asked for everything that ends a transaction in a way of its own.
# Nothing may be answered as done, nothing may hang, and no process may fall over it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(
    settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '100ms'\nmax_prepared_transactions = 10\nautovacuum = off\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE PROCEDURE write_twice() LANGUAGE plpgsql AS '
    . '$$ BEGIN INSERT INTO ledger VALUES (-1, 0); COMMIT; INSERT INTO ledger VALUES (-2, 0); COMMIT; END $$');
$cluster->sql('london', "BEGIN; INSERT INTO ledger VALUES (-" . (10 + $_) . ", 0); PREPARE TRANSACTION 'early $_'") for 1 .. 2;
$cluster->sql('london', 'CREATE TABLE other (a int)');
$cluster->poll('london', 'SELECT lease_left > interval \'0\' FROM ha_cluster', 't', 'lease_left says that it runs');
is($cluster->sql('paris', 'SELECT lease_left IS NULL FROM ha_cluster'), 't', 'a standby needs no lease');

$cluster->freeze($_) for qw(paris rome);
$cluster->poll('london', 'SELECT ha_is_primary()', 'f', 'the lease has ended');
$cluster->poll('london', 'SELECT lease_left FROM ha_cluster', '00:00:00', 'lease_left says so');

my %refused = (
    'a statement' => 'INSERT INTO ledger VALUES (-3, 0)',
    'a procedure that commits' => 'CALL write_twice()',
    'a subtransaction' => 'BEGIN; SAVEPOINT a; INSERT INTO ledger VALUES (-4, 0); RELEASE a; COMMIT',
    'synchronous_commit = off' => 'SET synchronous_commit = off; INSERT INTO ledger VALUES (-5, 0)',
    'PREPARE TRANSACTION' => "BEGIN; INSERT INTO ledger VALUES (-6, 0); PREPARE TRANSACTION 'late'",
    'COMMIT PREPARED' => "COMMIT PREPARED 'early 1'",
    'ROLLBACK PREPARED' => "ROLLBACK PREPARED 'early 2'",
    'NOTIFY' => "NOTIFY news, 'x'",
    'CREATE DATABASE' => 'CREATE DATABASE late',
    'CREATE INDEX CONCURRENTLY' => 'CREATE INDEX CONCURRENTLY ON other (a)',
    'VACUUM FULL' => 'VACUUM FULL other',
    'a temporary table' => 'CREATE TEMP TABLE t (a int)',
);
for my $what (sort keys %refused) {
    my ($status, undef, $error) = $cluster->try_sql('london', $refused{$what}, 10);
    ok($status != 0 && $error =~ /25006/, "$what is refused at once with 25006") or diag("status $status: $error");
}
is($cluster->sql('london', 'SELECT count(*) FROM ledger'), 0, 'nothing was written');
is($cluster->sql('london', 'SELECT count(*) FROM pg_prepared_xacts'), 2, 'both prepared transactions are left as they were');
unlike($cluster->log_text('london'), qr/PANIC|terminating any other active/, 'no process fell over it');

$cluster->thaw($_) for qw(paris rome);
my $primary = $cluster->wait_primary;
$cluster->sql($primary, "COMMIT PREPARED 'early 1'");
{
    local $ENV{PGOPTIONS} = '-c synchronous_commit=remote_apply';
    $cluster->sql($primary, "ROLLBACK PREPARED 'early 2'");
}
is($cluster->sql($primary, 'SELECT string_agg(id::text, \' \') FROM ledger'), '-11', 'with a majority both can be finished');
done_testing();
