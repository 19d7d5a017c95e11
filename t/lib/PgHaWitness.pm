# SPDX-License-Identifier: PostgreSQL
#
# Witnesses beside the servers of a PgHaCluster: pg_ha_witness processes with a configuration file, a
# state directory and a copy of the cluster's secret below the cluster's directory.  The cluster
# starts and ends them and, like its nodes, can freeze, thaw and kill them.  The cluster has to be made
# with files => ['pg_ha_witness'].
package PgHaWitness;

use strict;
use warnings;
use Exporter 'import';
use File::Copy qw(copy);

our @EXPORT = qw(add_witness write_witness_config start_witness stop_witness start_two_and_witness witness_directory wait_voters run_witness witness_cost);

sub witness_directory {
    my ($cluster, $name) = @_;
    return $cluster->dir . "/$name";
}

# Make everything a witness needs; the cluster must have its secret (start_first).  A node of that name that
# was never started becomes the witness, at its address.
sub add_witness {
    my ($cluster, $name, %override) = @_;
    my $dir = witness_directory($cluster, $name);
    my ($last) = sort { $b <=> $a } map { $_->{peer_port} } values %{ $cluster->{nodes} };
    my $node = $cluster->{nodes}{$name} //= { name => $name, host => $cluster->host_of($name), peer_port => $last + 1, family => [] };
    $cluster->{order} = [ grep { $_ ne $name } $cluster->names ];
    mkdir $dir, 0755 or die "$dir: $!";
    chmod 0755, $cluster->dir . '/pg_ha_witness';
    $node->{data} = $dir;
    $node->{log} = "$dir.log";
    $node->{command} = [ $cluster->dir . '/pg_ha_witness', '--config', "$dir/witness.conf" ];
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
        listen_addresses => $cluster->node($name)->{host},
        port => $cluster->node($name)->{peer_port},
        peers => join(', ', map { "$_->{host}:$_->{peer_port}" } map { $cluster->node($_) } $cluster->names),
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
    $cluster->launch($name);
    return $cluster->postmaster($name);
}

sub stop_witness {
    my ($cluster, $name) = @_;
    my $pid = $cluster->postmaster($name);
    kill 'TERM', $pid;
    $cluster->until_true(10, "$name has stopped", sub { !PgHaCluster::is_running($pid) });
}

# London, the primary, paris and the witness athens: three voters.
sub start_two_and_witness {
    my ($cluster) = @_;
    $cluster->start_first;
    add_witness($cluster, 'athens');
    start_witness($cluster, 'athens');
    $cluster->clone('paris', 'london');
    $cluster->start('paris');
    wait_voters($cluster, 'london', 3);
}

# What a running witness costs, in kB: its share of memory (PSS), all it has mapped (RSS), and the program without debug
# symbols; 0 where that cannot be had.
sub witness_cost {
    my ($cluster, $name) = @_;
    my %kb;
    if (open my $in, '<', '/proc/' . $cluster->postmaster($name) . '/smaps_rollup') {
        while (<$in>) { $kb{$1} = $2 if m{^(Pss|Rss): +(\d+) kB}; }
    }
    my $stripped = witness_directory($cluster, $name) . '/stripped';
    my ($status) = PgHaCluster::run_command(20, 'strip', '-o', $stripped, $cluster->dir . '/pg_ha_witness');
    return ($kb{Pss} // 0, $kb{Rss} // 0, $status == 0 ? int((-s $stripped) / 1024) : 0);
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
