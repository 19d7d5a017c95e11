# SPDX-License-Identifier: PostgreSQL
#
# A standby that was away while writes went on returns by itself: same member, a voter, streaming,
# with every row; and its absence stops nobody.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $term = $cluster->sql('london', 'SELECT term FROM ha_cluster');
$cluster->start_writer;
$cluster->wait_writes(200, 'all there');
$cluster->stop('rome', 'fast');
$cluster->wait_writes(300, 'while rome is away');
$cluster->poll('london', "SELECT liveness FROM ha_members WHERE name = 'rome'", 'unreachable', 'london notices that rome is away');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 't', 'london stays the primary');

$cluster->start('rome');
$cluster->wait_standby_of('rome', 'london');
$cluster->wait_ready('london');
$cluster->poll('london', "SELECT liveness, voter FROM ha_members WHERE name = 'rome'", 'alive|t', 'rome is alive and votes');
is($cluster->sql('london', 'SELECT count(*) FROM ha_members'), '3', 'it is still one of three members');
is($cluster->sql('london', 'SELECT term FROM ha_cluster'), $term, 'no election took place');
$cluster->wait_writes(100, 'after its return');
$cluster->stop_writer;
my $end = $cluster->sql('london', 'SELECT pg_current_wal_flush_lsn()');
$cluster->poll('rome', "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', 'rome has caught up');
$cluster->verify_ledger('rome');
done_testing();
