# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the segment at which a stream begins: where PostgreSQL chooses it, a standby whose upstream
# left its timeline within a long record ends with a PANIC.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use PgHaScenes;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'next_segment_asked',
    finds => 'panics',
    cluster => { segment_mb => 1 },
    scenario => sub {
        my ($cluster) = @_;
        my $bytes = die_within_a_record($cluster);
        my $new = $cluster->wait_primary(qw(paris rome));
        my ($follower) = grep { $_ ne $new } qw(paris rome);
        # The new timeline goes on beyond where the old one ended.
        $cluster->sql($new, "SELECT pg_logical_emit_message(false, 'long', repeat('x', $bytes))") for 1 .. 2;
        my $end = time + 15;
        sleep 0.1 while time < $end && $cluster->log_text($follower) !~ /PANIC/ && !$cluster->streams($follower, $new);
        return ($new, panics => scalar(() = $cluster->log_text($follower) =~ /PANIC/g));
    },
);
