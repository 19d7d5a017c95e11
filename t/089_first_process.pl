# SPDX-License-Identifier: PostgreSQL
#
# Servers as the first process of a container: namespaces for processes, mounts and IPC, in which the postmaster is
# number 1 each time and adopts every orphan.  Demotion and rewind in place go on under it; a container that was killed,
# also in the middle of a rejoin, comes home when it is started again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaMachine;
use PgHaRoot;
use Test::More;
use Time::HiRes qw(sleep time);

# ---- containers -------------------------------------------------------------------------------------------------

package PgHaContainers;
our @ISA = ('PgHaCluster');

my @container = qw(unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc);

sub unavailable {
    return 'containers need root' if $> != 0;
    my ($status, undef, $err) = PgHaCluster::run_command(10, @container, 'true');
    return $status == 0 ? undef : "namespaces do not work here: $err";
}

sub before_root_is_dropped {
    my ($self) = @_;
    PgHaCluster::write_file("$self->{dir}/run", "set -e\ndir=$self->{dir}/machine\nmount -t tmpfs none /run\n"
        . PgHaMachine::holding_pg_rewind() . "exec \"\$@\"\n");
    $self->{root} = PgHaRoot->new(sub { });
}

sub container {
    my ($self, @command) = @_;
    return (@container, 'sh', "$self->{dir}/run", qw(setpriv --reuid=postgres --regid=postgres --init-groups --), @command);
}

sub spawn {
    my ($self, $node) = @_;
    my $outside = $self->{root}->spawn($node->{log}, $self->container($self->server_command($node)));
    my $pid;
    $self->until_true(20, "$node->{name}'s container runs", sub {
        ($pid) = grep { (PgHaMachine::inner_pid($_) // 0) == 1 && (stat "/proc/$_")[4] == $> } PgHaCluster::family($outside);
        return $pid || !PgHaCluster::is_running($outside);
    });
    return $pid // $self->give_up("the container of $node->{name} did not start");
}

sub outer_pid {
    my ($self, $inner, $name) = @_;
    my ($pid) = grep { (PgHaMachine::inner_pid($_) // 0) == $inner } PgHaCluster::family($self->postmaster($name));
    return $pid;
}

sub zombies {
    my ($self, $name) = @_;
    return grep { ((PgHaCluster::process_state($_))[0] // '') eq 'Z' } PgHaCluster::family($self->postmaster($name));
}

package main;

if (my $reason = PgHaContainers->unavailable) { plan skip_all => $reason; }
my $cluster = PgHaContainers->new(limit => 600, settings => "pg_ha.lease_duration = '3s'\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
like(PgHaMachine::slurp($cluster->data($_) . '/postmaster.pid'), qr{^1\n}, "the postmaster of $_ is the first process of its container") for $cluster->names;
$cluster->start_writer;

sub crashes { my ($name, $log) = @_; return scalar(() = $cluster->log_text($name, $log) =~ m{reinitializing}g); }

# Frozen past its lease and thawed, with rows of its own or none.
sub depose {
    my ($old, $rows, $done) = @_;
    $cluster->wait_writes(100, "on $old");
    my ($pid, $log) = ($cluster->postmaster($old), $cluster->log_size($old));
    $cluster->diverge($old, $rows) if $rows;
    $cluster->freeze($old);
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $cluster->wait_writes(100, "on $new");
    $cluster->thaw($old);
    $cluster->wait_standby_of($old, $new);
    like($cluster->log_text($old, $log), $done, "$old: $done");
    ok(PgHaCluster::is_running($pid), 'under the same first process');
    $cluster->until_true(10, 'ended children are collected', sub { !$cluster->zombies($old) });
    $cluster->wait_ready($new);
    return $new;
}

# Processes of this node that run a program of that name, or a script in its place.
sub running {
    my ($name, $program) = @_;
    return grep { (PgHaMachine::slurp("/proc/$_/comm")) eq "$program\n" } PgHaCluster::family($cluster->postmaster($name));
}

my $primary = depose('london', 0, qr{all server processes terminated; reinitializing});
$primary = depose($primary, 2000, qr{pg_ha_rejoin: done: rewound});

# -- the container is killed, in the middle of the rejoin again, and started again with the same numbers
my $old = $primary;
$cluster->diverge($old, 2000);
$cluster->kill_postmaster($old);
$primary = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
$cluster->wait_writes(100, "on $primary");
$cluster->PgHaMachine::hold_pg_rewind;
$cluster->launch($old);
$cluster->until_true(60, 'the rewind has begun', sub { $cluster->PgHaMachine::rejoin_phase($old) eq 'rewinding' });
$cluster->kill_postmaster($old);
like(PgHaMachine::slurp($cluster->data($old) . '/postmaster.pid'), qr{^1\n}, 'the killed container leaves a lock file of process 1');
my $log = $cluster->log_size($old);
$cluster->launch($old);
$cluster->wait_log($old, qr{running pg_ha_rejoin to finish what was begun}, 'its next start goes on with the rewind', $log);

# -- the helper is killed, and its program with it: both are the postmaster's to collect
my ($helper, $program);
$cluster->until_true(60, 'pg_rewind waits', sub {
    ($helper) = running($old, 'pg_ha_rejoin');
    ($program) = running($old, 'pg_rewind');
    return $helper && $program;
});
kill 'KILL', $helper;
$cluster->until_true(10, 'the program ends with the helper', sub { !PgHaCluster::is_running($program) });
$cluster->wait_log($old, qr{pg_ha_rejoin has not finished}, 'the postmaster runs it once more', $log);
$cluster->PgHaMachine::let_pg_rewind_go;
$cluster->wait_standby_of($old, $primary);
$cluster->wait_log($old, qr{pg_ha_rejoin: done: rewound}, 'and it is done', $log);
is(crashes($old, $log), 0, 'what they left behind counts for no crash');
$cluster->until_true(10, 'ended children are collected', sub { !$cluster->zombies($old) });
$cluster->wait_ready($primary);
$cluster->verify_ledger($_) for $cluster->names;
$cluster->sql($primary, 'CREATE EXTENSION amcheck');
$cluster->compare_data($primary, [ $cluster->names ], 'ledger');

# -- a second container with the same volume, in which the lock file's process 1 is the newcomer itself
$log = $cluster->log_size($old);
my $second = $cluster->{root}->spawn($cluster->node($old)->{log}, $cluster->container($cluster->server_command($cluster->node($old)),
    '-c', "port=" . ($cluster->node($old)->{port} + 20)));
$cluster->until_true(60, 'the second server has ended', sub { !PgHaCluster::is_running($second) });
like($cluster->log_text($old, $log), qr{FATAL:  pg_ha: another server works in data directory}, 'a second server on one data directory refuses to start');
unlike($cluster->log_text($old, $log), qr{starting PostgreSQL|entering standby mode}, 'before it touches anything');
ok($cluster->streams($old, $primary), 'the first one goes on');

# -- what PostgreSQL itself makes of an orphan that fails, and the log warns of
like($cluster->log_text($old), qr{WARNING:  pg_ha: this server is the first process of its container}, 'the log warns of orphans');
my $before = crashes($old);
my ($status, undef, $err) = $cluster->{root}->run(20, qw(nsenter -p -m -t), $cluster->postmaster($old), qw(-- sh -c),
    '(sleep 0.2; exit 2) > /dev/null 2>&1 < /dev/null &');
is("$status $err", '0 ', 'a health check is cut off');
$cluster->until_true(30, 'an orphan that fails restarts the server', sub { crashes($old) > $before });
like($cluster->log_text($old), qr{server process \(PID \d+\) exited with exit code 2}, 'PostgreSQL takes it for one of its own');
$cluster->wait_standby_of($old, $primary);
done_testing();
