# SPDX-License-Identifier: PostgreSQL
#
# The primary's cable is out for 3 s and in for 5 s, for a minute.  The first time costs a failover; a node
# that comes and goes afterwards deposes nobody, and nothing acknowledged is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaLedger;
use PgHaNetwork;
use Test::More;

my $why_not = PgHaNetwork->unavailable;
plan(skip_all => $why_not) if defined $why_not;

my $cluster = PgHaNetwork->new;
$cluster->start_all;
my $term = $cluster->sql('london', 'SELECT term FROM ha_cluster');
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'before');

my $begin = $ledger->now;
my $wait_until = sub {
    my ($seconds) = @_;
    $cluster->until_true(120, "$seconds s have passed", sub { $ledger->now - $begin >= $seconds * 1e9 });
};
my ($primary, $elected);
for my $flap (0 .. 6) {
    $cluster->cable('london', 'down');
    $wait_until->(8 * $flap + 3);
    $cluster->cable('london', 'up');
    if (!$primary) {
        $primary = $cluster->wait_primary(qw(paris rome));
        $elected = $cluster->sql($primary, 'SELECT term FROM ha_cluster');
        cmp_ok($elected, '>', $term, 'the first time costs a failover');
    }
    $wait_until->(8 * $flap + 8);
    my $count = $cluster->primaries;
    is($count, 1, 'there is one primary');
}
$ledger->wait(200, 'after the last flap');
is($cluster->wait_primary, $primary, "it is still $primary");
is($cluster->sql($primary, 'SELECT term FROM ha_cluster'), $elected, 'in the same term');
$cluster->bring_back('london', $primary);
$ledger->verify($primary);
done_testing();
