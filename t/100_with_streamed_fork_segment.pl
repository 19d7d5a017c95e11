# SPDX-License-Identifier: PostgreSQL
#
# Negative control of t/056: where the part of a segment before the fork comes from the new primary, a standby that is
# killed before it has come does not start again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use PgHaScenes;
use Test::More;

negative_control(
    without => 'fork_segment_streamed',
    finds => 'not_started',
    cluster => { segment_mb => 64 },
    settings => "max_wal_size = 2GB\n",
    scenario => sub {
        my ($cluster) = @_;
        break_stream_before_fork($cluster, 'london', sub { $cluster->kill_everything('rome') });
        my $log = $cluster->log_size('rome');
        $cluster->launch('rome');
        my $why_not = qr/according to history file, WAL location/;
        my $primary = $cluster->wait_primary(qw(london paris));
        $cluster->until_true(60, 'rome streams, or has ended', sub { $cluster->streams('rome', $primary) || $cluster->log_text('rome', $log) =~ $why_not });
        return ($primary, not_started => $cluster->log_text('rome', $log) =~ $why_not ? 1 : 0);
    },
);
