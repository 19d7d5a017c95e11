# SPDX-License-Identifier: PostgreSQL
#
# How long nobody can write when the primary is lost, as clients see it, and whether anything they were
# told is missing afterwards.  Rounds of one fault on three servers under the independent ledger; after
# each the old primary comes back and the next round begins with a whole cluster.
#
# Started by scripts/bench-failover.  Prints one JSON line; progress goes to stderr.  The figure of a round
# is the time from the last acknowledgement of the old primary to the first of the new one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use PgHaCluster;
use PgHaLedger;
use Test::More;
use Time::HiRes qw(time sleep);

my %faults = (
    kill_postmaster => { inject => 'kill_postmaster', what => 'kill -9 of the postmaster' },
    kill_everything => { inject => 'kill_everything', what => 'kill -9 of all processes' },
    freeze => { inject => 'freeze', what => 'frozen host, lease of 2 s' },
    freeze_300ms => { inject => 'freeze', what => 'frozen host, lease of 300 ms',
        settings => short_lease(300, 50) },
    clean_stop => { inject => 'request_stop', what => 'pg_ctl stop -m fast' },
    switchover => { inject => 'switch_over', what => 'ha_switchover()' },
    # Frozen at any moment of the renewal, for about as long as the lease; often there is no failover.
    sweep => { inject => 'freeze', sweep => 1, what => 'frozen for about one lease', settings => short_lease(500, 100) },
    sweep_async => { inject => 'freeze', sweep => 1, what => 'the same, asynchronous',
        settings => short_lease(500, 100) . "pg_ha.synchronous = off\n" },
);
sub short_lease { return "pg_ha.lease_duration = '$_[0]ms'\npg_ha.heartbeat_interval = '$_[1]ms'\n"; }
my ($name, $rounds, $sessions, $seconds) = ('kill_postmaster', 100, 4, 0.5);
GetOptions('fault=s' => \$name, 'rounds=i' => \$rounds, 'sessions=i' => \$sessions) or exit 2;
my $fault = $faults{$name} or die "no fault is called $name; there are: @{[ sort keys %faults ]}\n";

# Test::More keeps the books of the library; what it says is not the result here.
open my $quiet, '>', '/dev/null' or die $!;
Test::More->builder->output($quiet);

my $cluster = PgHaCluster->new(limit => 86_400, settings => "fsync = on\nmax_wal_size = 4GB\n" . ($fault->{settings} // ''));
my $ledger = PgHaLedger->new($cluster, sessions => $sessions, $fault->{sweep} ? (pause_us => 500) : ());
my $whole = 'SELECT c.failover_possible AND c.voters = 3 AND c.config_in_force AND (NOT c.synchronous OR array_length(string_to_array(c.sync_set, \',\'), 1) = 3)'
    . ' AND (SELECT count(*) FROM pg_stat_replication WHERE state = \'streaming\') = 2 FROM ha_cluster c';

sub whole_again {
    my $primary = $cluster->wait_primary;
    $cluster->poll($primary, $whole, 't', "$primary has both standbys again", 120);
    return $primary;
}

# The session may end with its server before it has the answer.
sub PgHaCluster::switch_over {
    my ($self, $name) = @_;
    my (undef, undef, $err) = $self->try_sql($name, 'SELECT ha_switchover()');
    die $err if $err =~ /HA008/;
}

sub one_round {
    my ($round) = @_;
    my $old = whole_again();
    $ledger->start;
    $ledger->wait(100, 'before the fault');
    # The fault shall not keep step with anything that happens regularly.
    sleep $seconds * rand;
    my $since = $ledger->now;
    my $inject = $fault->{inject};
    $cluster->$inject($old, $inject eq 'request_stop' ? 'fast' : ());
    my ($ms) = (-1);
    $cluster->until_true(60, 'a later timeline acknowledges', sub {
        my (undef, $out) = PgHaCluster::run_command(20, $ledger->program, 'outage', '--out', $ledger->{files}[-1], '--after', $since);
        ($ms) = split ' ', $out;
        return $ms >= 0;
    });
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $ledger->wait(100, 'after the fault');
    $ledger->stop;
    if ($inject eq 'request_stop') {
        my $pid = $cluster->postmaster($old);
        $cluster->until_true(60, "$old has stopped", sub { !PgHaCluster::is_running($pid) });
    }
    $inject eq 'freeze' ? $cluster->thaw($old) : $inject eq 'switch_over' || $cluster->start($old);
    my $rewound = $cluster->bring_back($old, $new);
    printf STDERR "%s: round %d of %d: %s to %s, %.0f ms without writes%s\n", $fault->{what}, $round, $rounds, $old, $new, $ms,
        $rewound ? ', old primary rewound' : '';
    return $ms;
}

# The longest time without an acknowledgement since the freeze began, whoever gave it.
sub sweep_round {
    my ($round) = @_;
    my $old = $cluster->wait_primary;
    $ledger->start;
    $ledger->wait(100, 'before the freeze');
    sleep 0.1 * rand;
    my $since = $ledger->now;
    $cluster->freeze($old);
    sleep 0.5 * (0.8 + 0.5 * rand);
    $cluster->thaw($old);
    my $new = $cluster->wait_primary;
    $ledger->wait(100, 'after the freeze');
    my $ms = $ledger->gap($since);
    $ledger->stop;
    printf STDERR "%s: round %d of %d: %s, %.0f ms without writes\n", $fault->{what}, $round, $rounds,
        $old eq $new ? "$old goes on" : "$old to $new", $ms;
    $cluster->bring_back($old, $new) if $old ne $new;
    return $ms;
}

sub percentile {
    my ($share, @sorted) = @_;
    my $index = int($share * @sorted + 0.999999) - 1;
    return $sorted[ $index < 0 ? 0 : $index ];
}

$cluster->start_all;
my @ms = sort { $a <=> $b } map { $fault->{sweep} ? sweep_round($_) : one_round($_) } 1 .. $rounds;
my ($status, $found, $err) = $ledger->count(whole_again());
print STDERR $err;
printf qq({"fault": "%s", "n": %d, "median_ms": %.1f, "p99_ms": %.1f, "max_ms": %.1f, "acknowledged": %d, "lost": %d, )
    . qq("double_acks": %d, "late_acks": %d}\n),
    $name, $rounds, percentile(0.5, @ms), percentile(0.99, @ms), $ms[-1], @$found{qw(acknowledged lost double_acks late_acks)};
# Asynchronous commits can be lost and answered late by design; that run only tells how many.
is($status, 0, 'nothing lost, no two writers') unless $name =~ /_async$/;
done_testing();
