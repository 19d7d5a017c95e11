# SPDX-License-Identifier: PostgreSQL
#
# The primary loses its peers while every client still reaches it: in both directions, then in each one
# alone.  It stops acknowledging, the others elect, and it comes back as a standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaLedger;
use PgHaNetwork;
use Test::More;

my $why_not = PgHaNetwork->unavailable;
plan(skip_all => $why_not) if defined $why_not;

my $cluster = PgHaNetwork->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
my $primary = 'london';

my @ways = (
    [ 'both ways', sub { $cluster->cut(@_) } ],
    [ 'so that it is not heard', sub { $cluster->cut_one_way(@_) } ],
    [ 'so that it does not hear', sub { $cluster->cut_one_way(reverse @_) } ],
);
for my $way (@ways) {
    my ($what, $cut) = @$way;
    my @others = $cluster->others($primary);
    $ledger->start;
    $ledger->wait(200, "before $primary is cut off, $what");
    $cut->($primary, $_) for @others;
    my $new = $cluster->wait_primary(@others);
    $ledger->wait(200, "from $new", $new);
    my $told = $ledger->acknowledged($primary);
    is($cluster->sql($primary, 'SELECT ha_is_primary()'), 'f', "$primary is reached by clients and is not the primary");
    my ($status, undef, $error) = $cluster->try_sql($primary, 'INSERT INTO ledger VALUES (-1, 0)');
    ok($status != 0 && $error =~ /25006/, 'it refuses commits') or diag($error);
    is($ledger->acknowledged($primary), $told, 'it acknowledged nothing since');
    $cluster->heal;
    $cluster->bring_back($primary, $new);
    is_deeply([ $cluster->primaries ], [$new], 'there is exactly one primary');
    $cluster->wait_ready($new);
    $ledger->verify($new);
    $primary = $new;
}
done_testing();
