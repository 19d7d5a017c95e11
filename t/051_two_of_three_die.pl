# SPDX-License-Identifier: PostgreSQL
#
# The primary and the standby that has the newest acknowledged rows die together.  The third lacks them: it
# must not be promoted, whatever it hears later, before one of those two is back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use PgHaScenes;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'with both standbys');
only_rome_receives($cluster, $ledger);
$cluster->power_off(qw(london rome));

my $end = time + 5;
my $promoted = 0;
while (time < $end) {
    ++$promoted if $cluster->sql('paris', 'SELECT NOT pg_is_in_recovery()') eq 't';
    sleep 0.05;
}
is($promoted, 0, 'paris alone is not promoted');
$cluster->poll('paris', 'SELECT failover_possible FROM ha_cluster', 'f', 'it says that there is no failover');
$cluster->poll('paris', 'SELECT reason FROM ha_cluster', qr/./, 'and why it waits');

$cluster->start('rome');
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new", $new);
$cluster->start('london');
$cluster->bring_back('london', $new);
$ledger->verify($new);
done_testing();
