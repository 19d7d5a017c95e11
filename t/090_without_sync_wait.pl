# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the synchronous wait: where nobody waits, and the last check before the answer doesn't
# notice that, what the primary alone has is lost with it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'sync_not_waited,last_check_off',
    finds => 'lost',
    scenario => sub {
        my ($cluster) = @_;
        $cluster->keep_standbys('london');
        my @walsenders = split /\n/, $cluster->sql('london', 'SELECT pid FROM pg_stat_replication');
        kill 'STOP', @walsenders;
        sleep 1;
        $cluster->kill_everything('london');
        return $cluster->wait_primary(qw(paris rome));
    },
);
