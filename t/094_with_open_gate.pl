# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the gate, with the lease switched off in both runs: a vote that shuts the gate keeps an old
# primary from acknowledging without any clock; one that leaves it open does not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'lease_not_checked,gate_not_shut',
    with => 'lease_not_checked',
    finds => 'lost',
    settings => "pg_ha.lease_duration = '1s'\n",
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my $worker = $cluster->process('london', 'pg_ha node');
        kill 'STOP', $worker;
        my $new = $cluster->wait_primary(qw(paris rome));
        sleep 1;
        return $new;
    },
);
