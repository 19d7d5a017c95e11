# SPDX-License-Identifier: PostgreSQL
#
# A witness never makes a primary of a server that lacks acknowledged commits: a standby that was away when the
# primary wrote on with the witness is not elected when the primary dies too, although it and the witness are a
# majority.  The cluster says why, waits for the one that has everything, and goes on with it.  Or an operator
# decides otherwise.  And: everything restarted, in every order.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaWitness;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(nodes => [qw(london paris)], files => ['pg_ha_witness'], limit => 600,
    settings => "pg_ha.lease_duration = '1s'\n");
start_two_and_witness($cluster);

$cluster->start_writer;
$cluster->wait_writes(200, 'all there');
$cluster->stop('paris');
$cluster->poll('london', 'SELECT sync_set, write_quorum FROM ha_cluster', 'london|1', 'the standby that is gone leaves the sync set');
$cluster->wait_writes(500, 'the primary writes on with the witness');
$cluster->stop_writer;
$cluster->kill_everything('london');
$cluster->start('paris');

# Paris and the witness are two of three voters, and hear each other.
$cluster->poll('paris', 'SELECT quorum FROM ha_cluster', 't', 'paris hears a majority');
my $end = time + 6;
my $elected = 0;
while (time < $end) {
    ++$elected if $cluster->sql('paris', 'SELECT NOT pg_is_in_recovery() OR ha_is_primary()') eq 't';
    sleep 0.1;
}
is($elected, 0, 'for six leases paris, which lacks commits, is not elected');
$cluster->poll('paris', 'SELECT failover_possible FROM ha_cluster', 'f', 'failover_possible says so');
$cluster->poll('paris', 'SELECT failover_reason FROM ha_cluster', qr/every commit: missing london/, 'failover_reason says why');
like(($cluster->try_sql('paris', 'SELECT ha_failover()'))[2], qr/voters not heard: london.*are lost/s, 'and ha_failover() what it would cost');

# The one that has everything comes back.
$cluster->start('london');
$cluster->poll('london', 'SELECT ha_is_primary()', 't', 'london is elected again');
wait_voters($cluster, 'london', 3);
$cluster->verify_ledger('london');

# Everything is stopped and started, in every order.
my @orders = ([qw(london paris athens)], [qw(london athens paris)], [qw(paris london athens)],
    [qw(paris athens london)], [qw(athens london paris)], [qw(athens paris london)]);
for my $order (@orders) {
    my $primary = $cluster->wait_primary;
    wait_voters($cluster, $primary, 3);
    $cluster->poll($primary, 'SELECT write_quorum FROM ha_cluster', '2', 'both servers count');
    $cluster->start_writer;
    $cluster->wait_writes(100, "before everything is killed, @$order");
    $cluster->stop_writer;
    $cluster->power_off(qw(london paris athens));
    for my $name (@$order) {
        $name eq 'athens' ? start_witness($cluster, $name) : $cluster->start($name);
    }
    $primary = $cluster->wait_primary;
    $cluster->verify_ledger($primary);
}
done_testing();
