# SPDX-License-Identifier: PostgreSQL
#
# The primary loses one standby only: the whole link, one direction of it, only what the node workers say,
# only replication.  Nobody is deposed, and commits go on with the other standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaLedger;
use PgHaNetwork;
use Test::More;
use Time::HiRes qw(sleep);

my $why_not = PgHaNetwork->unavailable;
plan(skip_all => $why_not) if defined $why_not;

my $stall_limit = 3000;    # ms; 10 to 30 on an idle machine
my $seconds = 5;           # more than two leases, so that whoever wants to stand has stood

my $cluster = PgHaNetwork->new(settings => "pg_ha.lease_duration = '2s'\n");
$cluster->start_all;
my $term = $cluster->sql('london', 'SELECT term FROM ha_cluster');
my $ledger = PgHaLedger->new($cluster);
$ledger->start;

my @cuts = (
    [ 'the whole link', sub { $cluster->cut('london', 'paris') } ],
    [ 'what the primary says', sub { $cluster->cut_one_way('london', 'paris') } ],
    [ 'what the standby says', sub { $cluster->cut_one_way('paris', 'london') } ],
    [ 'what the node workers say', sub { $cluster->cut('london', 'paris', 'control') } ],
    [ 'replication', sub { $cluster->cut('london', 'paris', 'replication') } ],
);
for my $case (@cuts) {
    my ($what, $cut) = @$case;
    $ledger->wait(200, "before $what is lost");
    my $since = $ledger->now;
    $cut->();
    $cluster->until_true(60, "$seconds s have passed", sub { $ledger->now - $since > $seconds * 1e9 });
    $ledger->wait(100, "without $what");
    cmp_ok($ledger->gap($since), '<', $stall_limit, 'commits did not stall for long');
    is($cluster->sql('london', 'SELECT ha_is_primary(), term FROM ha_cluster'), "t|$term", 'the primary is the same, in the same term');
    $cluster->heal;
    $cluster->poll('london', q{SELECT liveness, streaming, lag_bytes < 10000000 FROM ha_members WHERE name = 'paris'}, 'alive|t|t',
        'paris is back');
}
$ledger->verify('london');
done_testing();
