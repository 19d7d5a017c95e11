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

negative_control(
    without => 'restarted_believed,restarted_votes_at_once',
    finds => 'lost',
    scenario => sub {
        my ($cluster, $ledger) = @_;
        die_while_rome_recovers($cluster, $ledger);
        return $cluster->wait_primary(qw(paris rome));
    },
);
