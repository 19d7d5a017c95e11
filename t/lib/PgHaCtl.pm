# SPDX-License-Identifier: PostgreSQL
#
# pg_hactl run for a test: to its end, or in the background to be interrupted.
package PgHaCtl;

use strict;
use warnings;
use PgHaCluster;
use Test::More;

sub new {
    my ($class, $cluster) = @_;
    return bless { cluster => $cluster, program => "$cluster->{bindir}/pg_hactl" }, $class;
}

# (exit status, standard output, messages)
sub run {
    my ($self, @arguments) = @_;
    local $ENV{PGCONNECT_TIMEOUT} = 30;    # a busy machine is no subject here
    return PgHaCluster::run_command(120, $self->{program}, @arguments);
}

# It ends with that status and says that; returns its standard output.
sub says {
    my ($self, $status, $pattern, $what, @arguments) = @_;
    my ($got, $out, $err) = $self->run(@arguments);
    ok($got == $status && "$out$err" =~ $pattern, $what)
        or diag("pg_hactl @arguments\nended with status $got, expected $status and $pattern:\n$out$err");
    return $out;
}

# The same as soon as the cluster lets it: a busy machine may elect now and then.
sub comes_to_say {
    my ($self, $status, $pattern, $what, @arguments) = @_;
    my ($got, $out, $err);
    my $end = time + 90;
    do { ($got, $out, $err) = $self->run(@arguments) } until ($got == $status && "$out$err" =~ $pattern) || time > $end;
    ok($got == $status && "$out$err" =~ $pattern, $what)
        or diag("pg_hactl @arguments\nended at last with status $got, expected $status and $pattern:\n$out$err");
    return $out;
}

sub start {
    my ($self, $log, @arguments) = @_;
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        exec { $self->{program} } $self->{program}, @arguments or POSIX::_exit(127);
    }
    return $pid;
}

# A connection string for members, all or those named.
sub conninfo {
    my ($self, @names) = @_;
    my @nodes = map { $self->{cluster}->node($_) } @names ? @names : $self->{cluster}->names;
    return 'host=' . join(',', map { $_->{host} } @nodes) . ' port=' . join(',', map { $_->{port} } @nodes) . ' user=postgres';
}

# What tells a new node from the one that it is copied from, here on one host.
sub own_settings {
    my ($self, $name) = @_;
    my $node = $self->{cluster}->node($name);
    return ('--node-name', $name, '--port', $node->{port}, '--peer-port', $node->{peer_port});
}

sub clone {
    my ($self, $name, $from, @arguments) = @_;
    return ('clone', '-D', $self->{cluster}->data($name), '--from', $from, $self->own_settings($name), '--no-sync', @arguments);
}

1;
