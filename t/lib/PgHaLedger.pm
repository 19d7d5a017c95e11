# SPDX-License-Identifier: PostgreSQL
#
# The independent ledger (test/ledger.cpp) at work on a cluster: several sessions to every node by its own
# address, whoever is primary.  What it says after a test is the verdict: no acknowledged row is missing
# on the last primary, and no two nodes acknowledged at a time.
package PgHaLedger;

use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time sleep);

# sessions, pipelined, pause_us, synchronous_commit: as in `ledger --help`.
sub new {
    my ($class, $cluster, %options) = @_;
    my $self = bless { cluster => $cluster, options => \%options, files => [], pid => undef }, $class;
    push @{ $cluster->{helpers} }, $self;
    return $self;
}

sub program { return "$_[0]{cluster}{dir}/ledger"; }
sub pid { return $_[0]{pid}; }
sub now { return 0 + ($_[0]{cluster}->must_run($_[0]->program, 'now')); }

sub start {
    my ($self, @nodes) = @_;
    my $cluster = $self->{cluster};
    @nodes = $cluster->names unless @nodes;
    my $number = @{ $self->{files} };
    push @{ $self->{files} }, "$cluster->{dir}/acknowledged-$number";
    my @command = ($self->program, 'run', '--hosts', $cluster->addresses(@nodes), '--out', $self->{files}[-1],
        '--first-id', 1_000_000_000 + $number * 10_000_000);
    my %options = %{ $self->{options} };
    push @command, '--' . tr/_/-/r, $options{$_} for sort keys %options;
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>>', "$cluster->{dir}/ledger.log";
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'TERM', $pid;
    $self->{cluster}->until_true(20, 'the ledger ends', sub { !PgHaCluster::is_running($pid) });
}

# Acknowledged rows of this run, by one node or by all.
sub acknowledged {
    my ($self, $node) = @_;
    open my $in, '<', $self->{files}[-1] or return 0;
    my $address = defined $node ? ' ' . $self->{cluster}->addresses($node) . ' ' : ' ';
    my $count = 0;
    while (<$in>) { ++$count if /A$/ && index($_, $address) >= 0; }
    return $count;
}

sub wait {
    my ($self, $more, $what, $node) = @_;
    my $goal = $self->acknowledged($node) + $more;
    $self->{cluster}->until_true(60, "$more more rows are acknowledged ($what)", sub {
        $self->{cluster}->give_up('the ledger ended') unless PgHaCluster::is_running($self->{pid});
        $self->acknowledged($node) >= $goal;
    });
    pass("rows are acknowledged: $what");
}

# The longest time without an acknowledgement since then, in ms.
sub gap {
    my ($self, $since) = @_;
    return 0 + ($self->{cluster}->must_run($self->program, 'gap', '--out', $self->{files}[-1], '--after', $since));
}

# Without judging: (status, { lost => ..., double_acks => ..., ... }, what it found).
sub count {
    my ($self, $node) = @_;
    $self->stop;
    my ($status, $out, $err) = PgHaCluster::run_command(120, $self->program, 'verify',
        '--hosts', $self->{cluster}->addresses($node), '--out', join(',', @{ $self->{files} }));
    $self->{cluster}->give_up("the ledger cannot be verified: $err") if $status > 1;
    return ($status, { $out =~ /"(\w+)": (\d+)/g }, $err);
}

sub verify {
    my ($self, $node) = @_;
    my ($status, $found, $err) = $self->count($node);
    is($found->{lost}, 0, "$node has all $found->{acknowledged} acknowledged rows") or diag($err);
    is($found->{double_acks}, 0, 'no two nodes acknowledged at a time') or diag($err);
    note("$found->{unknown} outcomes unknown, $found->{timelines} timelines, $found->{late_acks} late acknowledgements");
    return $found;
}

1;
