# SPDX-License-Identifier: PostgreSQL
#
# A cluster whose nodes have network namespaces and addresses of their own, so that links between them can
# be cut while clients still reach every node.  A router, a namespace too, stands between all of them:
#
#     clients (this process) ---- router ---- london, paris, rome
#
# Packets are dropped in the router, silently, by direction and by port if wanted: `ip rule ... blackhole`.
# Namespaces need root.  PgHaRoot runs `ip` and starts the servers, which run as postgres; when this process ends,
# however it ends, it removes the namespaces.
package PgHaNetwork;

use strict;
use warnings;
use parent -norequire, 'PgHaCluster';
use PgHaCluster;
use PgHaRoot;

our @as_postgres = qw(setpriv --reuid=postgres --regid=postgres --init-groups --);

# Why partitions can't be made here; undef: they can.
sub unavailable {
    return 'network namespaces need root' if $> != 0;
    my $try = "pg_ha-try-$$";
    my ($status, undef, $err) = PgHaCluster::run_command(10, qw(ip netns add), $try);
    return "ip netns does not work here: $err" if $status != 0;
    ($status, undef, $err) = PgHaCluster::run_command(10, 'ip', '-n', $try, qw(rule add pref 10 to 192.0.2.1 ipproto tcp dport 1 blackhole));
    PgHaCluster::run_command(10, qw(ip netns del), $try);
    return $status == 0 ? undef : "ip rule by port does not work here: $err";
}

# ---- the helper that stays root ------------------------------------------------------------------------

sub before_root_is_dropped {
    my ($self) = @_;
    my @namespaces = map { $self->namespace($_) } 'router', $self->names;
    $self->{root} = PgHaRoot->new(sub {
        PgHaCluster::run_command(20, qw(ip netns del), $_) for @namespaces;    # their links go with them
    });
    $self->make_network;
}

sub ip {
    my ($self, @words) = @_;
    my ($status, undef, $error) = $self->{root}->run(20, 'ip', @words);
    die "ip @words: $error\n" if $status != 0;
}

# ---- addresses -------------------------------------------------------------------------------------------

sub namespace { return "pg_ha-$$-$_[1]"; }

# 10.213.x.0/24 for one cluster: .1 clients, .2 router; then four addresses for each node's link.
sub make_network {
    my ($self) = @_;
    my $router = $self->{router} = $self->namespace('router');
    my $outside = "ha$$";
    my (undef, $routes) = PgHaCluster::run_command(10, qw(ip -4 route));
    my ($third) = grep { $routes !~ /\b10\.213\.$_\./ } map { ($$ + $_) % 256 } 0 .. 255;
    $self->{prefix} = "10.213.$third";
    $self->ip(qw(netns add), $router);
    $self->ip(qw(link add), $outside, qw(type veth peer name clients netns), $router);
    $self->ip(qw(addr add), "$self->{prefix}.1/30", 'dev', $outside);
    $self->ip(qw(link set), $outside, 'up');
    $self->ip('-n', $router, qw(addr add), "$self->{prefix}.2/30", qw(dev clients));
    $self->ip('-n', $router, qw(link set clients up));
    $self->ip(qw(route add), "$self->{prefix}.0/24", 'via', "$self->{prefix}.2");
    $self->ip(qw(netns exec), $router, qw(sysctl -q net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0));
    my $number = 0;
    for my $name ($self->names) {
        my $first = 4 * ++$number;
        my $space = $self->namespace($name);
        $self->{addresses}{$name} = "$self->{prefix}." . ($first + 2);
        $self->ip(qw(netns add), $space);
        $self->ip('-n', $router, qw(link add), $name, qw(type veth peer name eth0 netns), $space);
        $self->ip('-n', $router, qw(addr add), "$self->{prefix}." . ($first + 1) . '/30', 'dev', $name);
        $self->ip('-n', $router, qw(link set), $name, 'up');
        $self->ip('-n', $space, qw(link set lo up));
        $self->ip('-n', $space, qw(addr add), "$self->{addresses}{$name}/30", qw(dev eth0));
        $self->ip('-n', $space, qw(link set eth0 up));
        $self->ip('-n', $space, qw(route add default via), "$self->{prefix}." . ($first + 1));
    }
}

sub host_of { return $_[0]{addresses}{ $_[1] }; }

sub init {
    my ($self, $name) = @_;
    $self->SUPER::init($name);
    PgHaCluster::append($self->data($name) . '/pg_hba.conf', "host all,replication all $self->{prefix}.0/24 trust\n");
}

sub spawn {
    my ($self, $node) = @_;
    return $self->spawn_as_root($node, qw(ip netns exec), $self->namespace($node->{name}), @as_postgres, $self->server_command($node));
}

sub spawn_as_root {
    my ($self, $node, @command) = @_;
    return $self->{root}->spawn($node->{log}, @command);
}

# ---- broken links -------------------------------------------------------------------------------------------

# From now on packets from one node to the other are lost.  service: only those of 'control' (links between
# node workers) or 'replication' (PostgreSQL's port), whoever opened the connection.
sub cut_one_way {
    my ($self, $from, $to, $service) = @_;
    my @which = ([]);
    if ($service) {
        my $port = $service eq 'control' ? 'peer_port' : 'port';
        @which = ([ qw(ipproto tcp dport), $self->node($to)->{$port} ], [ qw(ipproto tcp sport), $self->node($from)->{$port} ]);
    }
    for my $ports (@which) {
        my $pref = 100 + ++$self->{cuts};
        $self->ip('-n', $self->{router}, qw(rule add pref), $pref, 'iif', $from, 'to', $self->host_of($to), @$ports, 'blackhole');
        push @{ $self->{cut} }, $pref;
    }
}

sub cut {
    my ($self, $one, $other, $service) = @_;
    $self->cut_one_way($one, $other, $service);
    $self->cut_one_way($other, $one, $service);
}

sub others {
    my ($self, @names) = @_;
    my %left_out = map { $_ => 1 } @names;
    return grep { !$left_out{$_} } $self->names;
}

sub heal {
    my ($self) = @_;
    $self->ip('-n', $self->{router}, qw(rule del pref), $_) for splice @{ $self->{cut} // [] };
}

# The cable of a node: clients lose it, too.
sub cable {
    my ($self, $name, $state) = @_;
    $self->ip('-n', $self->{router}, qw(link set), $name, $state);
}

1;
