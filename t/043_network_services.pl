# SPDX-License-Identifier: PostgreSQL
#
# The primary can speak with both standbys, but not about everything.  Without replication nothing is
# acknowledged that nobody else has, as pg_ha.min_sync_standbys = 1 demands; without the node workers' links its lease ends while WAL still flows,
# and the vote cuts the WAL.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaLedger;
use PgHaNetwork;
use Test::More;

my $why_not = PgHaNetwork->unavailable;
plan(skip_all => $why_not) if defined $why_not;

my $cluster = PgHaNetwork->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\npg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
my $term = $cluster->sql('london', 'SELECT term FROM ha_cluster');
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'before anything is cut');

# Replication to both.
$cluster->cut('london', $_, 'replication') for qw(paris rome);
my $since = $ledger->now;
$cluster->until_true(60, '3 s have passed', sub { $ledger->now - $since > 3e9 });
is($cluster->sql('london', 'SELECT ha_is_primary(), term FROM ha_cluster'), "t|$term", 'without replication the primary stays');
$cluster->heal;
$ledger->wait(200, 'with replication again');

# The node workers' links to both.
$cluster->cut('london', $_, 'control') for qw(paris rome);
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new, although london streamed until its election", $new);
is($cluster->sql('london', 'SELECT ha_is_primary()'), 'f', 'london is fenced');
$cluster->heal;
$cluster->bring_back('london', $new);
$ledger->verify($new);
done_testing();
