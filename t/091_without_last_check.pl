# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the last check before the answer: PostgreSQL answers a cancelled wait as a commit.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'last_check_off',
    finds => 'lost',
    scenario => sub {
        my ($cluster) = @_;
        $cluster->keep_standbys('london');
        my @walsenders = split /\n/, $cluster->sql('london', 'SELECT pid FROM pg_stat_replication');
        kill 'STOP', @walsenders;
        my $end = time + 1;
        while (time < $end) {
            $cluster->sql('london', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'ledger' AND wait_event = 'SyncRep'});
        }
        $cluster->kill_everything('london');
        return $cluster->wait_primary(qw(paris rome));
    },
);
