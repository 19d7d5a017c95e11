# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the lease at commit, in asynchronous mode, where only the lease keeps an old primary from
# acknowledging: its node worker is frozen, its backends are not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'lease_not_checked',
    finds => 'double_acks',
    settings => "pg_ha.synchronous = off\npg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n",
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my $worker = $cluster->process('london', 'pg_ha node');
        kill 'STOP', $worker;
        my $new = $cluster->wait_primary(qw(paris rome));
        $ledger->wait(200, "from $new", $new);
        sleep 0.5;
        return $new;
    },
);
