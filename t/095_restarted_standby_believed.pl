# SPDX-License-Identifier: PostgreSQL
#
# Negative control of a restarted standby's position: PostgreSQL tells a smaller one until it has read its own WAL
# again.  Where it is believed, and not made to wait after its restart, a standby that lacks acknowledged rows
# is elected.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use PgHaScenes;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'restarted_believed,restarted_votes_at_once',
    finds => 'lost',
    scenario => sub {
        my ($cluster, $ledger) = @_;
        only_rome_receives($cluster, $ledger);
        $cluster->kill_everything('rome');
        $cluster->hold_recovery('rome');
        $cluster->launch('rome');
        $cluster->kill_everything('london');
        my $end = time + 4;
        sleep 0.1 while time < $end && !defined $cluster->find_primary('paris');
        $cluster->release_recovery('rome');
        return $cluster->wait_primary(qw(paris rome));
    },
);
