# SPDX-License-Identifier: PostgreSQL
#
# Five nodes.  A standby has received WAL that was never acknowledged, and is cut off with the old primary.
# The other three go on.  When it comes back it is ahead, on a timeline that has died.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaLedger;
use PgHaNetwork;
use Test::More;
use Time::HiRes qw(time sleep);

my $why_not = PgHaNetwork->unavailable;
plan(skip_all => $why_not) if defined $why_not;

my @nodes = qw(london paris rome oslo wien);
my $cluster = PgHaNetwork->new(nodes => \@nodes, settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n"
    . "pg_ha.min_sync_standbys = 2\n");    # or london gives up those it does not hear for 2 s, and acknowledges with paris alone
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE ballast (t text)');
my $ledger = PgHaLedger->new($cluster, sessions => 2);
$ledger->start;
$ledger->wait(200, 'with all five');
my @majority = qw(rome oslo wien);

# Three of five have to have a commit; two do.
$cluster->cut('london', $_, 'replication') for @majority;
my ($status) = $cluster->try_sql('london', q{INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 5000)}, 1);
is($status, 124, 'a commit on two of five is not acknowledged');
$cluster->poll('paris', 'SELECT count(*) FROM ballast', 5000, 'paris has it, and nobody else');
for my $minority (qw(london paris)) { $cluster->cut($minority, $_) for @majority; }
my $new = $cluster->wait_primary(@majority);
$ledger->wait(200, "from $new", $new);
$cluster->heal;
$cluster->poll($new, q{SELECT count(*) FROM ha_members WHERE name IN ('london', 'paris') AND liveness = 'alive'}, 2, 'both are heard again');
my $end = time + 3;
my $streamed = 0;
while (time < $end) {
    for my $name (qw(london paris)) {
        ++$streamed if $cluster->streams($name, $new)
            && ($cluster->try_sql($name, 'SELECT count(*) FROM ballast'))[1] ne '0';
    }
    sleep 0.1;
}
is($streamed, 0, 'neither streams with the WAL of the dead timeline');
is_deeply([ $cluster->primaries ], [$new], 'there is exactly one primary');
$cluster->bring_back($_, $new) for qw(london paris);
$ledger->verify($new);
done_testing();
