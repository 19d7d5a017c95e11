# SPDX-License-Identifier: PostgreSQL
#
# The whole primary is frozen at any moment, for about as long as its lease, and goes on.  Ten times here;
# `scripts/bench-failover --fault sweep` does it 200 times, and with sweep_async in asynchronous mode.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;
use Time::HiRes qw(sleep);

my $lease = 0.5;
my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '500ms'\npg_ha.heartbeat_interval = '100ms'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster, sessions => 6, pause_us => 500);
$ledger->start;
my $failovers = 0;
for my $round (1 .. 10) {
    my $old = $cluster->wait_primary;
    $ledger->wait(100, "round $round");
    sleep 0.1 * rand;
    $cluster->freeze($old);
    sleep $lease * (0.8 + 0.5 * rand);
    $cluster->thaw($old);
    my $new = $cluster->wait_primary;
    next if $new eq $old;
    ++$failovers;
    # Half a second of somebody else's work on this machine, and they elect again.
    $cluster->until_true(120, "$old streams, or leads again", sub {
        my $primary = $cluster->find_primary;
        return defined $primary && ($primary eq $old || $cluster->streams($old, $primary));
    });
}
$ledger->verify($cluster->wait_primary);
note("$failovers failovers");
done_testing();
