# SPDX-License-Identifier: PostgreSQL
#
# Primaries lose their term again and again under load: killed, frozen past their lease, told to hand over, or stopped by
# a user on their way home.  Each comes back as a standby by itself; one that was not killed under the same
# postmaster.  Every acknowledged row is there, pgbench's books balance, data and indexes are the same on all nodes.
# PG_HA_REJOIN_LOOPS=30 turns oftener and compares after each turn (make rejoin-loops).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;
use Time::HiRes qw(time sleep);

package Load {
    sub pid { return $_[0]{pid}; }
}

my $loops = $ENV{PG_HA_REJOIN_LOOPS} // 6;
my $compared = $loops > 6 ? 1 : 3;
my $seed = $ENV{PG_HA_SEED} // time;
srand $seed;
note("PG_HA_SEED=$seed");
my @ways = (
    { loses => 'killed', diverged => 1 },
    { loses => 'frozen', diverged => 1 },
    { loses => 'told' },
    { loses => 'killed', diverged => 1, stopped => 1 },
    { loses => 'frozen' },
    { loses => 'killed' },
);
my $begun = time;
# Rows that no standby gets make standbys lost after 2 s, and who is alone then has no successor; not so with min_sync_standbys.
my $cluster = PgHaCluster->new(limit => 300 + 90 * $loops, settings => "pg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE EXTENSION amcheck', 'CREATE TABLE filler (id int PRIMARY KEY, text text)';
my @pgbench = ("$cluster->{bindir}/pgbench", '-h', join(',', map { $cluster->node($_)->{host} } $cluster->names),
    '-p', join(',', map { $cluster->node($_)->{port} } $cluster->names), '-U', 'postgres', 'dbname=postgres target_session_attrs=read-write');
$cluster->must_run(@pgbench, qw(-i -q));
my $ledger = PgHaLedger->new($cluster, sessions => 3);
$ledger->start;
my $primary = 'london';
my (%came_home, @stops, @same);
my $first_mode = int rand 2;

# A session that is lost ends pgbench's client, so there is one pgbench for each primary.
sub start_pgbench {
    my $pid = fork() // die "fork: $!";
    if ($pid) {
        my $load = bless { pid => $pid }, 'Load';
        push @{ $cluster->{helpers} }, $load;
        return $load;
    }
    open STDOUT, '>>', "$cluster->{dir}/pgbench.log";
    open STDERR, '>&', \*STDOUT;
    exec { $pgbench[0] } @pgbench, qw(-n -c 2 -R 200 -T 600) or POSIX::_exit(127);
}
sub end_pgbench {
    my ($load) = @_;
    my $pid = delete $load->{pid};
    kill 'TERM', $pid;
    $cluster->until_true(30, 'pgbench ends', sub { !PgHaCluster::is_running($pid) });
}

# A user's stop, at a moment of the way home, ends the server within its time; the next start goes on.  A smart one waits for
# sessions, and the ledger always has some: see t/064.
sub stop_on_the_way {
    my ($name) = @_;
    my $mode = (qw(fast immediate))[ ($first_mode + @stops) % 2 ];
    sleep rand 2;
    my $pid = $cluster->postmaster($name);
    $cluster->request_stop($name, $mode);
    push @stops, $mode;
    my $end = time + 20;
    sleep 0.05 while time < $end && PgHaCluster::is_running($pid);
    # Stock PostgreSQL hangs if a fast stop meets its recovery in the wrong moment; an immediate one ends it.
    if (PgHaCluster::is_running($pid)) {
        diag("$mode stop of $name was not heeded within 20 s");
        $cluster->request_stop($name, 'immediate');
    }
    $cluster->until_true(20, "$name has stopped ($mode)", sub { !PgHaCluster::is_running($pid) });
    pass("$name was stopped on its way home ($mode)");
    $cluster->start($name);
}

# As soon as the cluster lets it: a busy machine may elect now and then, also the old one once more.
sub hand_over {
    my ($from, $to) = @_;
    $cluster->until_true(120, "$from hands over to $to", sub {
        $cluster->try_sql($from, "SELECT ha_switchover('$to')");
        return defined $cluster->find_primary(grep { $_ ne $from } $cluster->names);
    });
}

sub compare {
    my $found = $ledger->verify($primary);
    my ($accounts, @others) = map { $cluster->sql($primary, "SELECT coalesce(sum($_->[1]), 0) FROM pgbench_$_->[0]") }
        [qw(accounts abalance)], [qw(tellers tbalance)], [qw(branches bbalance)], [qw(history delta)];
    is("@others", "$accounts $accounts $accounts", 'the books balance');
    $cluster->compare_data($primary, [ $cluster->names ], qw(ledger filler pgbench_accounts pgbench_tellers pgbench_branches pgbench_history));
    return $found;
}

my $found;
for my $loop (1 .. $loops) {
    my $way = $ways[ ($loop - 1) % @ways ];
    my $pgbench = start_pgbench();
    $ledger->wait(100, "loop $loop, on $primary");
    my $old = $primary;
    my @others = grep { $_ ne $old } $cluster->names;
    my $pid = $cluster->postmaster($old);
    my $killed = $way->{loses} eq 'killed';
    $cluster->diverge($old, 500) if $way->{diverged};
    my $log = $cluster->log_size($old);
    if ($way->{loses} eq 'told') { hand_over($old, $others[0]) }
    elsif ($killed) { $cluster->kill_everything($old) }
    else { $cluster->freeze($old) }
    $primary = $cluster->wait_primary(@others);
    end_pgbench($pgbench);
    $pgbench = start_pgbench();
    $ledger->wait(50, "on $primary, without $old", $primary);
    if ($killed) { $cluster->launch($old) }
    else { $cluster->thaw($old) }
    stop_on_the_way($old) if $way->{stopped};
    $cluster->until_true(120, "$old streams from $primary", sub {
        $primary = $cluster->find_primary // $primary;
        return $old ne $primary && $cluster->streams($old, $primary);
    });
    $cluster->poll($old, 'SELECT pg_is_in_recovery()', 't', "$old is a standby");
    my ($how) = $cluster->log_text($old, $log) =~ /pg_ha_rejoin: done: (rewound|cloned)/;
    ++$came_home{"$way->{loses}, " . ($how // 'replayed')};
    if (!$killed) {
        push @same, $cluster->postmaster($old) == $pid && PgHaCluster::is_running($pid) ? 1 : 0;
        ok($same[-1], "loop $loop: $old kept its postmaster");
    }
    $cluster->wait_ready($primary, 120);
    end_pgbench($pgbench);
    next if $loop % $compared && $loop < $loops;
    $found = compare();
    $ledger->start if $loop < $loops;
}
is_deeply([ $cluster->primaries ], [$primary], 'there is exactly one primary');
my $figures = sprintf 'loops %d, acknowledged %d, lost %d, double %d, same postmaster %d of %d, %.0f s; came home: %s; stopped on the way: %s',
    $loops, @$found{qw(acknowledged lost double_acks)}, scalar(grep { $_ } @same), scalar(@same), time - $begun,
    join('; ', map { "$_: $came_home{$_}" } sort keys %came_home), "@stops";
if ($compared == 1) { diag($figures) }
else { note($figures) }
done_testing();
