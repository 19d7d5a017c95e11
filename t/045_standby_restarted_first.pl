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
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'with both standbys');
my $walreceiver = $cluster->sql('paris', 'SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', $walreceiver or die "cannot stop the walreceiver of paris: $!";
$ledger->wait(1000, 'that only rome has received');

$cluster->kill_everything('rome');
my $offset = $cluster->log_size('rome');
$cluster->launch('rome');
$cluster->wait_log('rome', qr/entering standby mode/, 'rome reads its WAL again', $offset);
$cluster->kill_everything('london');
# Paris may go on now, with what has waited in its connection: less than what was acknowledged.
kill 'CONT', $walreceiver;
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new", $new);
$cluster->start('london');
$cluster->bring_back('london', $new);
$ledger->verify($new);
done_testing();
