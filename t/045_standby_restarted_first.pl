# SPDX-License-Identifier: PostgreSQL
#
# The only standby that has the newest acknowledged rows crashes and comes back, and at that moment the
# primary dies.  PostgreSQL tells a smaller position until it has read its own WAL again; whoever believed
# that would elect the other standby, which lacks those rows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use PgHaScenes;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'with both standbys');
ok(!die_while_rome_recovers($cluster, $ledger), 'nobody is elected while rome does not know what it has');
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new", $new);
$cluster->start('london');
$cluster->bring_back('london', $new);
$ledger->verify($new);
done_testing();
