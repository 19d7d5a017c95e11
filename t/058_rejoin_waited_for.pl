# SPDX-License-Identifier: PostgreSQL
#
# A server is rewound while its primary has nobody else who could confirm a commit.  The rewind ends with a commit on the
# primary, which waits for this very server: so the helper must not wait for that, or neither ever goes on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;

# The lease outlasts the rejoin: without one the primary would refuse that commit at once.
my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '30s'\npg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
make_filler($cluster, 0);
my $new = die_diverged($cluster, 'london', 2000);
my ($other) = grep { $_ ne $new } qw(paris rome);
$cluster->wait_standby_of($other, $new);
$cluster->stop_writer;

$cluster->freeze($other);
my $log = $cluster->log_size('london');
$cluster->launch('london');
$cluster->wait_log('london', qr/pg_ha_rejoin: done: rewound to $new/, 'the rewind ends', $log);
$cluster->wait_standby_of('london', $new);
$cluster->start_writer($new, 'london');
$cluster->wait_writes(100, "which london, back at home, confirms to $new");
$cluster->thaw($other);
$cluster->wait_ready($new);
$cluster->compare_data($new, [ $cluster->names ], 'filler');
$cluster->verify_ledger($new);
done_testing();
