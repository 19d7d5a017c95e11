# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the comparison of positions: after a power cut a preferred standby that lacks commits is
# elected with the vote of one that has them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'priority_beats_lsn,no_stand_in',    # or paris may stand first
    finds => 'lost',
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my %priority = (rome => 200, paris => 0);    # paris votes, and does not stand
        for my $name (sort keys %priority) {
            $cluster->write_node_settings($name, 'pg_ha.failover_priority' => $priority{$name});
            kill 'HUP', $cluster->postmaster($name);
            $cluster->poll('london', "SELECT priority FROM ha_members WHERE name = '$name'", $priority{$name}, "$name has its priority");
        }
        kill 'STOP', $cluster->process('rome', 'walreceiver');
        $ledger->wait(100, 'that rome lacks');
        $cluster->power_off;
        $cluster->start($_) for qw(rome paris);
        my ($end, $primary) = (time + 10);
        sleep 0.1 until $primary = $cluster->find_primary('rome') or time > $end;
        return $primary if $primary;
        $cluster->start('london');
        return $cluster->wait_primary('london', 'rome');
    },
);
