# SPDX-License-Identifier: PostgreSQL
#
# The primary dies while a standby with a slow disk has received WAL that it has not flushed yet, and that the other
# has not received.  What a standby tells when it votes is what it will have, so the winner lacks nothing of the
# other, which follows at once and is not rewound while the winner needs it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use PgHaScenes;
use Test::More;

my $library = ($ENV{PG_HA_BINDIR} // '') =~ s{bin$}{lib/slow_flush.so}r;
plan(skip_all => 'needs slow_flush.so, as scripts/test has it') unless -e $library;

my $cluster = PgHaCluster->new(settings => "fsync = on\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster, sessions => 8, pause_us => 0);
$ledger->start;
my ($new, $follower, $diverged) = die_with_unflushed_wal($cluster, $ledger, $library);
is($diverged, 0, "$follower has nothing that $new lacks");
$ledger->wait(50, "from $new", $new);
$ledger->verify($new);
done_testing();
