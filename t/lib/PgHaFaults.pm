# SPDX-License-Identifier: PostgreSQL
#
# Faults that may come at any time and over one another, for test/chaos.pl.  Each is called with its faults object,
# the name of a node and a source of numbers drawn beforehand, does its work without waiting for anything, and answers
# a text and what follows later: [seconds, sub, text].  No text: it cannot happen now.
#
# It must never damage a data directory, accept a loss, or signal a process that the cluster did not start.
package PgHaFaults;

use strict;
use warnings;
use PgHaCluster;
use POSIX ();

# Weights: how often, against each other.  on: primary (whoever acknowledged last), or any node.
my %faults = (
    kill_postmaster => { weight => 5, on => 'primary', do => \&kill_postmaster },
    kill_everything => { weight => 5, on => 'primary', do => \&kill_everything },
    kill_one => { weight => 7, on => 'any', do => \&kill_one },
    freeze_node => { weight => 8, on => 'primary', do => \&freeze_node },
    freeze_one => { weight => 9, on => 'any', do => \&freeze_one },
    stop => { weight => 7, on => 'any', do => \&stop },
    switchover => { weight => 6, on => 'primary', do => \&switchover },
    pause => { weight => 2, on => 'primary', do => \&pause },
    failover => { weight => 2, on => 'any', do => \&failover },
    cut => { weight => 8, on => 'primary', do => \&cut, network => 1 },
    flap => { weight => 2, on => 'primary', do => \&flap, network => 1 },
    cable => { weight => 3, on => 'primary', do => \&cable, network => 1 },
    settings => { weight => 6, on => 'any', do => \&settings },
    empty_sync_rule => { weight => 2, on => 'primary', do => \&empty_sync_rule },
    end_waits => { weight => 3, on => 'primary', do => \&end_waits },
    replay_pause => { weight => 2, on => 'any', do => \&replay_pause },
    bulk => { weight => 6, on => 'primary', do => \&bulk },
    wal => { weight => 5, on => 'any', do => \&wal },
    everybody => { weight => 2, on => 'primary', do => \&everybody },
);

sub new {
    my ($class, $cluster, %options) = @_;
    my $self = bless { cluster => $cluster, lease => $options{lease}, settings => {}, cuts => {}, cables => {}, asked => 0 }, $class;
    $self->{members} = [ sort keys %{ $cluster->{nodes} } ];
    $self->{servers} = [ $cluster->names ];
    return $self;
}

sub kinds {
    my ($network) = @_;
    return sort grep { $network || !$faults{$_}{network} } keys %faults;
}
sub weight { return $faults{ $_[0] }{weight}; }
sub prefers_primary { return $faults{ $_[0] }{on} eq 'primary'; }

# (text, what follows ...)
sub inject {
    my ($self, $kind, $name, @numbers) = @_;
    return $faults{$kind}{do}->($self, $name, sub { @numbers ? shift @numbers : 0.5 });
}

sub pick {
    my ($number, @from) = @_;
    return $from[ int($number * @from) ];
}

# ---- processes ------------------------------------------------------------------------------------------

# Still a child of this test, and not another program under a number that came round again.
sub is_up {
    my ($self, $name) = @_;
    PgHaCluster::reap();
    my $pid = $self->{cluster}->postmaster($name) // return 0;
    my ($state, $parent) = PgHaCluster::process_state($pid);
    return defined $state && $state ne 'Z' && $parent == $$;
}
sub is_witness { return defined $_[0]{cluster}->node($_[1])->{command}; }

# Everything that works in the node's data directory, whoever is its parent.
sub processes {
    my ($self, $name) = @_;
    my $data = $self->{cluster}->data($name);
    my @all = grep { my $cwd = readlink "/proc/$_/cwd"; defined $cwd && index("$cwd/", "$data/") == 0 } map { m{(\d+)$} } glob '/proc/[0-9]*';
    my $pid = $self->{cluster}->postmaster($name);
    push @all, $pid if $self->is_up($name) && !grep { $_ == $pid } @all;
    return @all;
}

# Of those, the ones that no running postmaster answers for.
sub orphans {
    my ($self, $name) = @_;
    my %family = $self->is_up($name) ? map { $_ => 1 } PgHaCluster::family($self->{cluster}->postmaster($name)) : ();
    return grep { !$family{$_} } $self->processes($name);
}

sub title {
    my ($pid) = @_;
    open my $in, '<', "/proc/$pid/cmdline" or return '';
    my $line = <$in> // '';
    $line =~ s/\0.*//s;
    return $line;
}

# Without a process that waits.
sub launch {
    my ($self, $name) = @_;
    return 0 if $self->is_up($name);
    my $node = $self->{cluster}->node($name);
    $node->{pid} = $self->{cluster}->spawn($node);
    $node->{family} = [ $node->{pid} ];
    delete $node->{stopping};
    $node->{wanted} = 1;
    return 1;
}

sub start_later {
    my ($self, $name, $seconds) = @_;
    $self->{cluster}->node($name)->{wanted} = 0;
    return [ $seconds, sub { $self->launch($name) ? "start $name" : undef } ];
}

sub kill_postmaster {
    my ($self, $name, $draw) = @_;
    return unless $self->is_up($name);
    kill 'KILL', $self->{cluster}->postmaster($name);
    return ("kill -9 of the postmaster of $name", $self->start_later($name, 5 * $draw->()));
}

sub kill_everything {
    my ($self, $name, $draw) = @_;
    my @all = $self->processes($name) or return;
    kill 'KILL', @all;
    return ("kill -9 of everything of $name", $self->start_later($name, 8 * $draw->()));
}

sub children {
    my ($self, $name) = @_;
    return if $self->is_witness($name) || !$self->is_up($name);
    my $pid = $self->{cluster}->postmaster($name);
    return grep { $_ != $pid } PgHaCluster::family($pid);
}

# A backend or a worker; sometimes by a signal that it may catch.
sub kill_one {
    my ($self, $name, $draw) = @_;
    my @titles = sort { $a->[0] cmp $b->[0] || $a->[1] <=> $b->[1] } map { [ title($_), $_ ] } $self->children($name) or return;
    my ($workers, $which, $how) = ($draw->(), $draw->(), $draw->());
    my @servants = grep { $_->[0] !~ /ledger|postgres postgres/ } @titles;
    my ($title, $pid) = @{ pick($which, $workers < 0.8 && @servants ? @servants : @titles) };
    my $signal = pick($how, qw(KILL KILL KILL QUIT TERM));
    kill $signal, $pid;
    return ("kill -$signal of \"$title\" of $name");
}

sub stop_processes {
    my ($self, $seconds, $text, @pids) = @_;
    kill 'STOP', @pids;
    my %cwd = map { $_ => readlink("/proc/$_/cwd") // '' } @pids;
    return ($text, [ $seconds, sub { kill 'CONT', grep { (readlink("/proc/$_/cwd") // '') eq $cwd{$_} } @pids; 'thaw again' } ]);
}

sub freeze_node {
    my ($self, $name, $draw) = @_;
    my @all = $self->processes($name) or return;
    my $seconds = $self->freeze_time($draw);
    kill 'STOP', @all;    # and then what they had just started
    return $self->stop_processes($seconds, sprintf('freeze %s for %.2f s', $name, $seconds), $self->processes($name));
}

# Mostly around the lease, sometimes well past it.
sub freeze_time {
    my ($self, $draw) = @_;
    my ($long, $length) = ($draw->(), $draw->());
    return $self->{lease} * ($long < 0.7 ? 0.5 + $length : 2 + 5 * $length);
}

my @servants = ('pg_ha node', 'pg_ha manager', 'walreceiver', 'walsender', 'checkpointer', 'startup', 'walwriter', 'background writer');
sub freeze_one {
    my ($self, $name, $draw) = @_;
    my @children = $self->children($name);
    my ($which, $seconds) = ($draw->(), $self->freeze_time($draw));
    my %there = map { $_ => [] } @servants;
    for my $pid (@children) {
        my $title = title($pid);
        push @{ $there{$_} }, $pid for grep { $title =~ /^postgres: \Q$_\E/ } @servants;
    }
    my $what = pick($which, grep { @{ $there{$_} } } @servants) // return;
    return $self->stop_processes($seconds, sprintf('freeze the %s of %s for %.2f s', $what, $name, $seconds), @{ $there{$what} });
}

my %signal_of = (smart => 'TERM', fast => 'INT', immediate => 'QUIT');
sub stop {
    my ($self, $name, $draw) = @_;
    return unless $self->is_up($name);
    my $mode = $self->is_witness($name) ? 'smart' : pick($draw->(), qw(smart fast fast fast immediate));
    kill $signal_of{$mode}, $self->{cluster}->postmaster($name);
    $self->{cluster}->node($name)->{stopping} = 1;
    return ("stop $name, $mode", $self->start_later($name, 8 * $draw->()));
}

sub everybody {
    my ($self, undef, $draw) = @_;
    my $how = pick($draw->(), qw(power fast immediate));
    my @order = sort { $a->[0] <=> $b->[0] } map { [ 6 * $draw->(), $_ ] } @{ $self->{members} };
    kill 'KILL', map { $self->processes($_) } @{ $self->{members} } if $how eq 'power';
    for my $name (grep { $how ne 'power' && $self->is_up($_) } @{ $self->{members} }) {
        kill $signal_of{ $self->is_witness($name) ? 'smart' : $how }, $self->{cluster}->postmaster($name);
        $self->{cluster}->node($name)->{stopping} = 1;
    }
    return ($how eq 'power' ? 'power off everywhere' : "stop everybody, $how", map { $self->start_later($_->[1], $_->[0]) } @order);
}

# ---- statements ---------------------------------------------------------------------------------------------

# In the background; answers go to a file.
sub ask {
    my ($self, $name, $sql, $limit) = @_;
    return 0 if $self->is_witness($name);
    my $cluster = $self->{cluster};
    my $node = $cluster->node($name);
    my $pid = fork() // die "fork: $!";
    return 1 if $pid;
    open STDIN, '<', '/dev/null';
    open STDOUT, '>>', "$cluster->{dir}/statements.log";
    open STDERR, '>&', \*STDOUT;
    $| = 1;
    print scalar(localtime), " $name: $sql\n";
    exec 'timeout', $limit // 20, "$cluster->{bindir}/psql", qw(-XAtq -v VERBOSITY=verbose -h), $node->{host}, '-p', $node->{port},
        qw(-U postgres -d postgres -c), $sql
        or POSIX::_exit(127);
}

sub switchover {
    my ($self, $name, $draw) = @_;
    my $target = pick($draw->(), 'to the best', grep { $_ ne $name } @{ $self->{servers} });
    $self->ask($name, $target eq 'to the best' ? 'SELECT ha_switchover()' : "SELECT ha_switchover('$target')") or return;
    return ("switchover on $name, $target");
}

sub pause {
    my ($self, $name, $draw) = @_;
    $self->ask($name, 'SELECT ha_pause()') or return;
    return ("pause on $name", [ 10 * $draw->(), sub { $self->ask($name, 'SELECT ha_resume()'); "resume on $name" } ]);
}

# Without accept_data_loss: an election by order, in a pause, or nothing.
sub failover {
    my ($self, $name) = @_;
    $self->ask($name, 'SELECT ha_failover()') or return;
    return ("ha_failover() on $name");
}

sub empty_sync_rule {
    my ($self, $name, $draw) = @_;
    my $how = pick($draw->(), q{SET synchronous_standby_names = ''}, 'RESET synchronous_standby_names', 'RESET ALL', q{SET synchronous_standby_names = 'nobody'});
    $self->ask($name, "ALTER SYSTEM $how") && $self->ask($name, 'SELECT pg_sleep(0.05), pg_reload_conf()') or return;
    return ("ALTER SYSTEM $how on $name");
}

sub end_waits {
    my ($self, $name, $draw) = @_;
    my $how = pick($draw->(), qw(pg_cancel_backend pg_terminate_backend));
    $self->ask($name, "SELECT count($how(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") or return;
    return ("$how() of all that wait for standbys on $name");
}

sub replay_pause {
    my ($self, $name, $draw) = @_;
    $self->ask($name, 'SELECT pg_wal_replay_pause()') or return;
    return ("replay paused on $name", [ 6 * $draw->(), sub { $self->ask($name, 'SELECT pg_wal_replay_resume()'); "replay resumed on $name" } ]);
}

my @work = (
    q{INSERT INTO filler SELECT nextval('filler_id'), repeat('x', 200) FROM generate_series(1, 20000)},
    q{SET synchronous_commit = local; INSERT INTO filler SELECT nextval('filler_id'), repeat('y', 100) FROM generate_series(1, 3000)},
    q{BEGIN; INSERT INTO filler SELECT nextval('filler_id'), 'long' FROM generate_series(1, 2000); SELECT pg_sleep(2); COMMIT},
    q{UPDATE filler SET text = text || '.' WHERE id % 7 = 3},
    q{DELETE FROM filler WHERE id % 3 = 1; VACUUM filler},
    q{VACUUM FULL filler},
    q{DROP TABLE IF EXISTS copied; CREATE TABLE copied AS SELECT * FROM filler; CREATE INDEX ON copied (id)},
    q{TRUNCATE filler},
);
sub bulk {
    my ($self, $name, $draw) = @_;
    my $sql = pick($draw->(), @work);
    $self->ask($name, $sql) or return;
    return ("work on $name: " . substr($sql, 0, 60));
}

sub wal {
    my ($self, $name, $draw) = @_;
    my $sql = pick($draw->(), 'CHECKPOINT', 'CHECKPOINT', 'SELECT pg_switch_wal()', 'SELECT pg_switch_wal(); CHECKPOINT');
    $self->ask($name, $sql) or return;
    return ("$sql on $name");
}

# ---- settings ---------------------------------------------------------------------------------------------------

my @settings = (
    [ 'pg_ha.min_sync_standbys' => 1 ], [ 'pg_ha.min_sync_standbys' => 2 ], [ 'pg_ha.heartbeat_interval' => q{'30ms'} ],
    [ 'pg_ha.failover_priority' => 0 ], [ 'pg_ha.failover_priority' => 500 ], [ 'pg_ha.retention_size' => q{'1MB'} ],
    [ 'pg_ha.retention_size' => 0 ], [ 'wal_keep_size' => 0 ], [ 'restart_after_crash' => 'off' ], [ 'pg_ha.trace' => 'on' ],
    [ 'pg_ha.lease_duration' => q{'700ms'} ], [ 'pg_ha.lease_duration' => q{'3s'} ], [ 'synchronous_standby_names' => q{''} ],
    [ 'recovery_min_apply_delay' => q{'1s'} ], [ 'max_wal_size' => q{'32MB'} ], [ 'wal_receiver_timeout' => q{'1s'} ],
    [ 'wal_sender_timeout' => q{'1s'} ], [ 'checkpoint_timeout' => q{'30s'} ],
);
sub settings {
    my ($self, $name, $draw) = @_;
    return if $self->is_witness($name);
    my ($setting, $value) = @{ pick($draw->(), @settings) };
    my $everywhere = $draw->() < 0.5;
    my @names = $everywhere ? @{ $self->{servers} } : ($name);
    $self->set($_, $setting, $value) for @names;
    return ("$setting = $value on @names", [ 10 * $draw->(), sub { $self->set($_, $setting) for @names; "$setting as before on @names" } ]);
}

sub set {
    my ($self, $name, $setting, $value) = @_;
    my $all = $self->{settings}{$name} //= {};
    if (defined $value) { $all->{$setting} = $value; }
    else { delete $all->{$setting}; }
    $self->{cluster}->write_node_settings($name, %$all);
    kill 'HUP', $self->{cluster}->postmaster($name) if $self->is_up($name);
}

# ---- the network ----------------------------------------------------------------------------------------------------

sub blocked {
    my ($self, $key, $from, $to, $service) = @_;
    my $cluster = $self->{cluster};
    local $cluster->{cut} = [];
    $cluster->cut_one_way($from, $to, $service);
    push @{ $self->{cuts}{$key} }, @{ $cluster->{cut} };
}

sub unblock {
    my ($self, $key) = @_;
    my $cluster = $self->{cluster};
    local $cluster->{cut} = delete $self->{cuts}{$key} // [];
    $cluster->heal;
}

# PostgreSQL's port is none of a witness's.
sub broken_links {
    my ($self, $name, $draw) = @_;
    my $service = pick($draw->(), undef, undef, 'control', 'replication');
    my $way = pick($draw->(), qw(both both out in));
    my @others = grep { $_ ne $name } @{ $self->{members} };
    my @peers = $draw->() < 0.5 ? @others : pick($draw->(), @others);
    @peers = grep { !$self->is_witness($_) } $self->is_witness($name) ? () : @peers if ($service // '') eq 'replication';
    my $key = join ' ', $name, ++$self->{asked};
    my $block = sub {
        for my $peer (@peers) {
            $self->blocked($key, $name, $peer, $service) if $way ne 'in';
            $self->blocked($key, $peer, $name, $service) if $way ne 'out';
        }
    };
    return @peers ? ("$name from @peers, " . ($service // 'everything') . ", $way", $block, sub { $self->unblock($key) }) : ();
}

sub cut {
    my ($self, $name, $draw) = @_;
    my ($text, $block, $unblock) = $self->broken_links($name, $draw) or return;
    my $seconds = 0.3 + 8 * $draw->();
    $block->();
    return (sprintf('cut %s, for %.1f s', $text, $seconds), [ $seconds, sub { $unblock->(); "healed: $text" } ]);
}

sub flap {
    my ($self, $name, $draw) = @_;
    my ($text, $block, $unblock) = $self->broken_links($name, $draw) or return;
    my ($out, $in) = (0.1 + 2 * $draw->(), 0.1 + 2 * $draw->());
    my @later;
    for my $round (0 .. 4) {
        push @later, [ $round * ($out + $in), sub { $block->(); undef } ], [ $round * ($out + $in) + $out, sub { $unblock->(); undef } ];
    }
    return (sprintf('flaps %s, %.1f s out, %.1f s in', $text, $out, $in), @later);
}

sub cable {
    my ($self, $name, $draw) = @_;
    return if $self->{cables}{$name}++;
    $self->{cluster}->cable($name, 'down');
    my $seconds = 0.3 + 6 * $draw->();
    return (sprintf('cable of %s out for %.1f s', $name, $seconds), [ $seconds, sub { $self->plug_in($name); "cable of $name in" } ]);
}

sub plug_in {
    my ($self, $name) = @_;
    $self->{cluster}->cable($name, 'up') if delete $self->{cables}{$name};
}

# ---- the end of all faults ----------------------------------------------------------------------------------------

sub mend {
    my ($self) = @_;
    $self->unblock($_) for keys %{ $self->{cuts} };
    $self->plug_in($_) for keys %{ $self->{cables} };
    for my $name (@{ $self->{members} }) {
        kill 'CONT', $self->processes($name);
        next if $self->is_witness($name);
        my $changed = %{ delete $self->{settings}{$name} // {} };
        $self->{cluster}->write_node_settings($name) if $changed;
        kill 'HUP', $self->{cluster}->postmaster($name) if $changed && $self->is_up($name);
        # A smart stop may wait for clients for ever.
        kill 'INT', $self->{cluster}->postmaster($name) if $self->{cluster}->node($name)->{stopping} && $self->is_up($name);
    }
}

1;
