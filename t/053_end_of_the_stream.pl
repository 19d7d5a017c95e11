# SPDX-License-Identifier: PostgreSQL
#
# The primary dies while both standbys have received WAL that they have not flushed yet: their disks are slow.
# What a standby tells when it votes is what it will have, so the winner lacks nothing of the other, which
# follows at once and is not rewound while the winner needs it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;

my $library = ($ENV{PG_HA_BINDIR} // '') =~ s{bin$}{lib/slow_flush.so}r;
plan(skip_all => 'needs slow_flush.so, as scripts/test has it') unless -e $library;

my $cluster = PgHaCluster->new(settings => "fsync = on\n");
$cluster->start_all;
{
    local $ENV{LD_PRELOAD} = $library;
    local $ENV{PG_HA_SLOW_FLUSH_US} = 15_000;
    for my $name (qw(paris rome)) {
        $cluster->stop($name);
        $cluster->start($name);
    }
}
$cluster->wait_standby_of($_, 'london') for qw(paris rome);
$cluster->wait_ready('london');
my $ledger = PgHaLedger->new($cluster, sessions => 8, pause_us => 0);
$ledger->start;
$ledger->wait(300, 'before the kill');
my %offset = map { $_ => $cluster->log_size($_) } qw(paris rome);
$cluster->kill_everything('london');
my $new = $cluster->wait_primary(qw(paris rome));
my ($follower) = grep { $_ ne $new } qw(paris rome);
$cluster->wait_standby_of($follower, $new);
unlike($cluster->log_text($follower, $offset{$follower}), qr/diverged from/, "$follower has nothing that $new lacks");
$ledger->wait(50, "from $new", $new);
$ledger->verify($new);
done_testing();
