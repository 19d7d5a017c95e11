# SPDX-License-Identifier: PostgreSQL
#
# Two servers and a witness: three voters.  Either server may die and the other goes on; the witness
# may die and nothing happens; and a witness never elects a server that lacks acknowledged commits.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaWitness;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(nodes => [qw(london paris)], files => ['pg_ha_witness'],
    settings => "pg_ha.lease_duration = '1s'\n");
$cluster->start_first;
$cluster->clone('paris', 'london');
$cluster->start('paris');
$cluster->wait_standby_of('paris', 'london');
$cluster->poll('london', 'SELECT voters FROM ha_cluster', 1, 'two servers alone: one voter');
$cluster->poll('london', 'SELECT failover_reason FROM ha_cluster', qr/needs three voters.*witness/, 'and it is said what is missing');

add_witness($cluster, 'athens');
start_witness($cluster, 'athens');
wait_voters($cluster, 'london', 3);
$cluster->poll('paris', "SELECT kind, voter FROM ha_members WHERE name = 'athens'", 'witness|t', 'the witness votes');
$cluster->poll('london', 'SELECT sync_set, write_quorum FROM ha_cluster', 'london, paris|2', 'a commit counts on both servers, not on the witness');

# The witness dies: writes go on, and the cluster says that a failover is not possible.
$cluster->start_writer;
$cluster->wait_writes(200, 'all there');
$cluster->kill_everything('athens');
$cluster->poll('london', 'SELECT failover_possible FROM ha_cluster', 'f', 'without the witness no failover is possible');
$cluster->poll('london', 'SELECT failover_reason FROM ha_cluster', qr/athens \(not heard\)/, 'and why');
$cluster->wait_writes(200, 'without the witness');
start_witness($cluster, 'athens');
wait_voters($cluster, 'london', 3);

# The primary dies with everything: the standby is elected with the witness's vote, and writes on at once.
$cluster->kill_everything('london');
is($cluster->wait_primary('paris'), 'paris', 'paris is elected');
$cluster->wait_writes(200, 'the survivor writes on without its standby');
$cluster->poll('paris', 'SELECT sync_set, write_quorum FROM ha_cluster', 'paris|1', 'which has left the sync set');
$cluster->poll('paris', 'SELECT failover_possible FROM ha_cluster', 'f', 'now nobody else could take over');
$cluster->start('london');
$cluster->bring_back('london', 'paris');
wait_voters($cluster, 'paris', 3);
$cluster->poll('paris', 'SELECT sync_set, write_quorum FROM ha_cluster', 'london, paris|2', 'london counts again');
is_deeply([ $cluster->primaries ], ['paris'], 'one primary');

# The standby dies: the primary goes on with the witness.
$cluster->wait_writes(200, 'both there again');
$cluster->kill_everything('london');
$cluster->wait_writes(200, 'the primary writes on with the witness');
$cluster->verify_ledger('paris');
done_testing();
