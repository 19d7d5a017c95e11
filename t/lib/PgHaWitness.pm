# SPDX-License-Identifier: PostgreSQL
#
# Witnesses beside the servers of a PgHaCluster: pg_ha_witness processes with a configuration file, a
# state directory and a copy of the cluster's secret below the cluster's directory.  The cluster
# ends them and, like its nodes, can freeze, thaw and kill them.
package PgHaWitness;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Copy qw(copy);
use POSIX qw(setsid);

our @EXPORT = qw(add_witness write_witness_config start_witness stop_witness witness_directory wait_voters run_witness);

# Opened before the test gives up root's rights (PgHaCluster->new); copied from here afterwards.
my $path = dirname(abs_path(__FILE__)) . '/../../build/pg_ha_witness';
open my $program, '<:raw', $path or die "the program pg_ha_witness is not built: cmake --build build --target witness\n";

sub witness_directory {
    my ($cluster, $name) = @_;
    return $cluster->dir . "/$name";
}

# Make everything a witness needs; the cluster must have its secret (start_first).
sub add_witness {
    my ($cluster, $name, %override) = @_;
    my $dir = witness_directory($cluster, $name);
    my ($last) = sort { $b <=> $a } map { $_->{peer_port} } values %{ $cluster->{nodes} };
    mkdir $dir, 0755 or die "$dir: $!";
    unless (-e $cluster->dir . '/pg_ha_witness') {
        seek $program, 0, 0;
        copy($program, $cluster->dir . '/pg_ha_witness') or die "copy: $!";
        chmod 0755, $cluster->dir . '/pg_ha_witness';
    }
    $cluster->{nodes}{$name} = { name => $name, data => $dir, log => "$dir.log", peer_port => $last + 1, family => [] };
    my ($first) = $cluster->names;
    copy($cluster->data($first) . '/pg_ha.secret', "$dir/secret") or die "copy: $!";
    chmod 0600, "$dir/secret";
    write_witness_config($cluster, $name, %override);
}

# A key with an undefined value is left out; `text` is appended as it is.
sub write_witness_config {
    my ($cluster, $name, %override) = @_;
    my $dir = witness_directory($cluster, $name);
    my $text = delete $override{text} // '';
    my %settings = (
        node_name => $name,
        listen_addresses => '127.0.0.1',
        port => $cluster->node($name)->{peer_port},
        peers => join(', ', map { '127.0.0.1:' . $cluster->node($_)->{peer_port} } $cluster->names),
        state_directory => "$dir/state",
        secret_file => "$dir/secret",
        lease_duration => '1s',
        %override,
    );
    PgHaCluster::write_file("$dir/witness.conf",
        join('', map { defined $settings{$_} ? "$_ = $settings{$_}\n" : '' } sort keys %settings) . $text);
}

sub start_witness {
    my ($cluster, $name) = @_;
    my $node = $cluster->node($name);
    my $dir = witness_directory($cluster, $name);
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        setsid();
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $node->{log};
        open STDERR, '>&', \*STDOUT;
        my $copy = $cluster->dir . '/pg_ha_witness';
        exec { $copy } $copy, '--config', "$dir/witness.conf" or POSIX::_exit(127);
    }
    $node->{pid} = $pid;
    $node->{family} = [$pid];
    return $pid;
}

sub stop_witness {
    my ($cluster, $name) = @_;
    my $pid = $cluster->postmaster($name);
    kill 'TERM', $pid;
    $cluster->until_true(10, "$name has stopped", sub { !PgHaCluster::is_running($pid) });
}

# Run it in the foreground with these arguments: (status, stdout, stderr).
sub run_witness {
    my ($cluster, @arguments) = @_;
    return PgHaCluster::run_command(20, $cluster->dir . '/pg_ha_witness', @arguments);
}

# All data nodes and so many witnesses vote, says the primary.
sub wait_voters {
    my ($cluster, $primary, $voters) = @_;
    $cluster->poll($primary, 'SELECT failover_possible, voters FROM ha_cluster', "t|$voters",
        "$primary says that a failover is possible and $voters members vote");
}

1;
