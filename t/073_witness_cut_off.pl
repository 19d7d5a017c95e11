# SPDX-License-Identifier: PostgreSQL
#
# Two servers and a witness with broken links between them, while clients reach both servers: the primary cut off
# from both others, the servers cut off from each other while both reach the witness, the witness cut off.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaLedger;
use PgHaNetwork;
use PgHaWitness;
use Test::More;

my $why_not = PgHaNetwork->unavailable;
plan(skip_all => $why_not) if defined $why_not;

my $cluster = PgHaNetwork->new(nodes => [qw(london paris athens)], files => ['pg_ha_witness'],
    settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
start_two_and_witness($cluster);

sub all_well {
    my ($primary) = @_;
    wait_voters($cluster, $primary, 3);
    $cluster->poll($primary, 'SELECT sync_set, write_quorum FROM ha_cluster', 'london, paris|2', 'both servers count for a commit');
}
all_well('london');
my $ledger = PgHaLedger->new($cluster);

# The primary alone: the other server and the witness elect, and write on without it.
$ledger->start;
$ledger->wait(200, 'all there');
$cluster->cut('london', $_) for qw(paris athens);
is($cluster->wait_primary('paris'), 'paris', 'paris is elected by the witness and itself');
$ledger->wait(200, 'from paris alone', 'paris');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 'f', 'london is reached by clients and is not the primary');
$cluster->heal;
$cluster->bring_back('london', 'paris');
all_well('paris');
$ledger->verify('paris');

# The servers don't hear each other, the witness hears both: the primary stays, and goes on with the witness.
$ledger->start;
$ledger->wait(200, 'all there');
my $term = $cluster->sql('paris', 'SELECT term FROM ha_cluster');
$cluster->cut('london', 'paris');
$cluster->poll('paris', 'SELECT sync_set, write_quorum FROM ha_cluster', 'paris|1', 'the server that is not heard leaves the sync set');
$ledger->wait(200, 'from paris with the witness', 'paris');
is($cluster->sql('london', 'SELECT term, pg_is_in_recovery() FROM ha_cluster'), "$term|t", 'the other one has not disturbed it');
$cluster->heal;
$cluster->wait_standby_of('london', 'paris');
all_well('paris');

# The witness alone: nothing happens.
$cluster->cut('athens', $_) for qw(london paris);
$cluster->poll('paris', 'SELECT failover_possible FROM ha_cluster', 'f', 'without the witness no failover is possible');
$ledger->wait(200, 'without the witness', 'paris');
is($cluster->sql('paris', 'SELECT term FROM ha_cluster'), $term, 'in the same term');
$cluster->heal;
all_well('paris');
$ledger->verify('paris');
done_testing();
