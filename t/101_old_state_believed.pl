# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the echo that a data directory keeps of its state: a server whose state directory is put back
# to the time when it was the only voter opens for writes by its own word, without the rows of its successor.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use File::Path qw(remove_tree);
use Time::HiRes qw(time sleep);

negative_control(
    without => 'echo_ignored',
    finds => 'lost',
    alone => sub { $_[0]->must_run('cp', '-a', $_[0]->state_directory('london'), "$_[0]{dir}/alone"); },
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my @others = qw(paris rome);
        my $state = $cluster->state_directory('london');
        $cluster->kill_everything('london');
        $cluster->wait_primary(@others);
        $ledger->wait(200, 'that london lacks');
        $cluster->kill_everything($_) for @others;
        remove_tree($state);
        $cluster->must_run('cp', '-a', "$cluster->{dir}/alone", $state);
        $cluster->start('london');
        my ($end, $primary) = (time + 6);
        sleep 0.1 until $primary = $cluster->find_primary('london') or time > $end;
        return $primary if $primary;
        $cluster->start($_) for @others;
        return $cluster->wait_primary(@others);
    },
);
