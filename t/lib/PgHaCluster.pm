# SPDX-License-Identifier: PostgreSQL
#
# Real servers for the TAP tests: makes them, breaks them, asks them, and shows every log when an
# expectation is not met.  Perl core modules only.
#
# Everything a node started is a descendant of this process, even after its postmaster was killed
# (child subreaper), so tests can freeze or kill whole nodes and nothing stays behind.  There are no
# sleeps that a test relies on: every wait is a poll with a limit and a sentence of its own.
package PgHaCluster;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Select;
use IO::Socket::INET;
use POSIX qw(:sys_wait_h setsid);
use Test::More;
use Time::HiRes qw(time sleep);

my $limit_default = 60;    # seconds; generous: tests must not fail because a machine is busy
my $file_limit = 300;      # seconds for a whole test file
my %exited;                # pid -> wait status of processes that ended
my @clusters;

# ---- this process -----------------------------------------------------------------------------------

sub become_subreaper {
    my %prctl = ('x86_64' => 157, 'aarch64' => 167, 'i686' => 172, 'riscv64' => 167, 'ppc64le' => 171);
    my $machine = (POSIX::uname())[4];
    die "no number of prctl(2) known for $machine\n" unless $prctl{$machine};
    syscall($prctl{$machine}, 36, 1, 0, 0, 0) == 0 or die "prctl: $!\n";    # PR_SET_CHILD_SUBREAPER
}

# PostgreSQL refuses root.  The test itself becomes the user of the Debian package, so that it may
# signal and read everything the servers make; files under /root were read by then.
sub drop_root {
    my ($dir) = @_;
    return if $> != 0;
    my (undef, undef, $uid, $gid) = getpwnam('postgres') or die "there is no user postgres\n";
    chown $uid, $gid, $dir, glob("$dir/*");
    chdir $dir or die "$dir: $!\n";
    $( = $gid;
    $) = "$gid $gid";
    POSIX::setuid($uid);
    die "could not become the user postgres\n" if $> != $uid || $< != $uid;
    $ENV{HOME} = '/var/lib/postgresql';
}

# Collect ended children, also adopted ones, so that nobody mistakes a zombie for a live server.
sub reap {
    while ((my $pid = waitpid(-1, WNOHANG)) > 0) { $exited{$pid} = $?; }
}

sub process_state {
    my ($pid) = @_;
    open my $in, '<', "/proc/$pid/stat" or return;
    my $line = <$in> // return;
    return $line =~ m{^\d+ \(.*\) (\S) (\d+)}s ? ($1, $2) : ();
}

sub is_running {
    my ($pid) = @_;
    reap();
    my ($state) = process_state($pid);
    return defined $state && $state ne 'Z';
}

# The process and everything below it.
sub family {
    my ($pid) = @_;
    my %children;
    for my $path (glob '/proc/[0-9]*') {
        my ($child) = $path =~ m{(\d+)$};
        my (undef, $parent) = process_state($child) or next;
        push @{ $children{$parent} }, $child if defined $parent;
    }
    my @all = ($pid);
    for (my $i = 0; $i < @all; ++$i) { push @all, @{ $children{ $all[$i] } // [] }; }
    return @all;
}

# Run a command to its end; (status, stdout, stderr).  Status 124: it took longer than the limit.
sub run_command {
    my ($limit, @command) = @_;
    pipe(my $out_read, my $out_write) or die $!;
    pipe(my $err_read, my $err_write) or die $!;
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $out_write;
        open STDERR, '>&', $err_write;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    close $out_write;
    close $err_write;
    my %text = ($out_read => '', $err_read => '');
    my $select = IO::Select->new($out_read, $err_read);
    my $end = time + $limit;
    while ($select->count) {
        my $left = $end - time;
        if ($left <= 0) {
            kill 'KILL', $pid;
            waitpid $pid, 0;
            return (124, $text{$out_read}, "no answer within $limit s: @command\n");
        }
        for my $handle ($select->can_read($left)) {
            my $got = sysread $handle, my $piece, 65536;
            if ($got) { $text{$handle} .= $piece; }
            else { $select->remove($handle); }
        }
    }
    waitpid $pid, 0;
    my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    return ($status, $text{$out_read}, $text{$err_read});
}

# ---- the cluster --------------------------------------------------------------------------------------

sub new {
    my ($class, %options) = @_;
    my $bindir = $options{bindir} // $ENV{PG_HA_BINDIR} // `pg_config --bindir`;
    chomp $bindir;
    my $base = $ENV{PG_HA_TMP} // $ENV{TMPDIR} // '/tmp';
    my $self = bless {
        bindir => $bindir,
        dir => tempdir('pg_ha-t-XXXXXX', DIR => $base),
        nodes => {},
        order => $options{nodes} // [qw(london paris rome)],
        settings => $options{settings} // '',
        checksums => $options{checksums} // 1,
        segment_mb => $options{segment_mb} // 16,
        writer => undef,
        given => \%options,    # for subclasses
        helpers => [],    # other clients that end with the test; each knows its pid
        test => $$,
    }, $class;
    chmod 0755, $self->{dir};
    my ($built) = grep { -x } "$bindir/pg_ha_ledger", dirname(abs_path(__FILE__)) . '/../../build/ledger';
    die "the program ledger is not built: cmake --build build --target ledger\n" unless $built;
    copy($built, "$self->{dir}/ledger") or die "copy $built: $!";
    chmod 0755, "$self->{dir}/ledger";
    for my $file (@{ $options{files} // [] }) {    # of the build directory
        copy(dirname(abs_path(__FILE__)) . "/../../build/$file", "$self->{dir}/$file") or die "$file is not built: $!\n";
    }
    become_subreaper();
    $self->before_root_is_dropped;
    drop_root($self->{dir});
    my $port = free_ports(2 * @{ $self->{order} });
    for my $name (@{ $self->{order} }) {
        $self->{nodes}{$name} = {
            name => $name, host => $self->host_of($name), data => "$self->{dir}/$name", log => "$self->{dir}/$name.log",
            port => $port++, peer_port => $port++, family => [],
        };
    }
    $ENV{PGCONNECT_TIMEOUT} = 5;
    delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE XDG_RUNTIME_DIR)};
    push @clusters, $self;
    my $limit = $options{limit} // $file_limit;
    $SIG{ALRM} = sub { $self->give_up("the test file took longer than $limit s"); };
    $SIG{INT} = $SIG{TERM} = sub { exit 1; };
    alarm $limit;
    return $self;
}

# For clusters whose nodes have addresses and namespaces of their own: PgHaNetwork.pm.
sub before_root_is_dropped { }
sub outer_pid { return $_[1]; }    # of a process that this node calls so: PgHaMachine.pm
sub host_of { return '127.0.0.1'; }

# First of a run of ports that are free on 127.0.0.1.
sub free_ports {
    my ($count) = @_;
    my $first = $ENV{PG_HA_PORT} // 20000 + ($$ * 16) % 10000;
    for (my $base = $first; $base < $first + 80; $base += $count) {
        my @sockets = map {
            IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $base + $_, Listen => 1, ReuseAddr => 1) // ()
        } 0 .. $count - 1;
        return $base if @sockets == $count;
    }
    die "no $count free ports in a row from $first on\n";
}

sub node {
    my ($self, $name) = @_;
    return $self->{nodes}{$name} // die "no node is called $name\n";
}
sub names { return @{ $_[0]{order} }; }
sub dir { return $_[0]{dir}; }
sub addresses {
    my ($self, @names) = @_;
    return join ',', map { "$_->{host}:$_->{port}" } map { $self->node($_) } @names;
}
sub data { return $_[0]->node($_[1])->{data}; }
sub state_directory { return $_[0]->data($_[1]) . '.pg_ha'; }
sub postmaster { return $_[0]->node($_[1])->{pid}; }
sub exit_status { return $exited{ $_[0]->postmaster($_[1]) }; }    # as wait(2) has it; undefined while it runs

sub must_run {
    my ($self, @command) = @_;
    local $ENV{PGCONNECT_TIMEOUT} = 60;    # a busy machine is no subject here
    my ($status, $out, $err) = run_command(120, @command);
    $self->give_up("@command ended with status $status:\n$out$err") if $status != 0;
    return $out;
}

sub append {
    my ($path, $text) = @_;
    open my $file, '>>', $path or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
}

sub write_file {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
}

# initdb and settings; one include file holds what differs between nodes.
sub init {
    my ($self, $name) = @_;
    my $peers = join ', ', map { "$_->{host}:$_->{peer_port}" } map { $self->node($_) } $self->names;
    $self->must_run("$self->{bindir}/initdb", '-D', $self->data($name), qw(-U postgres -A trust --no-locale -E UTF8 --no-sync), '--wal-segsize', $self->{segment_mb}, $self->{checksums} ? '--data-checksums' : ());
    append($self->data($name) . '/postgresql.conf', <<"END");

unix_socket_directories = ''
fsync = off
wal_log_hints = on
shared_buffers = 16MB
wal_keep_size = 256MB
log_line_prefix = '%m [%p] %b: '
shared_preload_libraries = 'pg_ha'
pg_ha.peers = '$peers'
pg_ha.replication_conninfo = 'user=postgres'
$self->{settings}
include 'node.conf'
END
    $self->write_node_settings($name);
}

sub write_node_settings {
    my ($self, $name, %override) = @_;
    my $node = $self->node($name);
    my %settings = (
        'port' => $node->{port}, 'pg_ha.port' => $node->{peer_port}, 'pg_ha.node_name' => "'$name'",
        (map { $_ => "'$node->{host}'" } qw(listen_addresses pg_ha.listen_addresses pg_ha.advertise_address)), %override,
    );
    write_file("$node->{data}/node.conf",
        join '', map { defined $settings{$_} ? "$_ = $settings{$_}\n" : '' } sort keys %settings);
}

sub clone {
    my ($self, $name, $from) = @_;
    $self->must_run("$self->{bindir}/pg_basebackup", '-D', $self->data($name), '-h', $self->node($from)->{host}, '-p', $self->node($from)->{port},
        qw(-U postgres -c fast --no-sync));
    $self->write_node_settings($name);
}

# A bootstrapped first node with the extension and the table that the writing client uses.
sub start_first {
    my ($self) = @_;
    my ($first) = $self->names;
    $self->init($first);
    $self->start($first);
    $self->sql($first, 'CREATE EXTENSION pg_ha');
    $self->sql($first, 'SELECT ha_bootstrap()');
    $self->poll($first, 'SELECT ha_is_primary()', 't', 'the first node is the primary of a cluster of one');
    $self->sql($first, 'CREATE TABLE ledger (id bigint PRIMARY KEY, port int)');
}

# All voters, with synchronous replication and ready for a failover; the first node is the primary.  `alone` is called
# with the cluster before the others join.
sub start_all {
    my ($self, $alone) = @_;
    my ($first, @others) = $self->names;
    $self->start_first;
    $alone->($self) if $alone;
    for my $name (@others) {
        $self->clone($name, $first);
        $self->start($name);
    }
    $self->wait_ready($first);
}

sub wait_ready {
    my ($self, $primary, $limit) = @_;
    my $voters = $self->names;
    $self->poll($primary, 'SELECT failover_possible, voters FROM ha_cluster', "t|$voters",
        "$primary says that a failover is possible and all $voters nodes vote", $limit);
}

# ---- start and stop --------------------------------------------------------------------------------------

sub server_command { return $_[1]{command} ? @{ $_[1]{command} } : ("$_[0]{bindir}/postgres", '-D', $_[1]{data}); }

sub spawn {
    my ($self, $node) = @_;
    my $pid = fork() // die "fork: $!";
    return $pid if $pid;
    setsid();
    chdir '/';
    open STDIN, '<', '/dev/null';
    open STDOUT, '>>', $node->{log};
    open STDERR, '>&', \*STDOUT;
    my @command = $self->server_command($node);
    exec { $command[0] } @command or POSIX::_exit(127);
}

# Without waiting for connections.
sub launch {
    my ($self, $name) = @_;
    my $node = $self->node($name);
    $self->until_true(20, "the old processes of $name are gone", sub { !grep { is_running($_) } @{ $node->{family} } });
    $self->forget_kept_standbys($name);
    my $pid = $self->spawn($node);
    $node->{pid} = $pid;
    $node->{family} = [$pid];
}

sub start {
    my ($self, $name) = @_;
    $self->launch($name);
    my $pid = $self->postmaster($name);
    $self->until_true($limit_default, "$name accepts connections",
        sub {
            $self->give_up("$name did not start") unless is_running($pid);
            return ($self->try_sql($name, 'SELECT 1'))[0] == 0;
        });
}

# The old primary, which runs again, becomes a standby of the new one.  True: it had to be rewound for that.
sub bring_back {
    my ($self, $old, $new, $limit) = @_;
    $self->until_true($limit // 120, "$old streams from $new", sub { $self->streams($old, $new) });
    $self->poll($old, 'SELECT pg_is_in_recovery()', 't', "$old lets sessions in");
    return $self->sql($old, q{SELECT count(*) > 0 FROM ha_events WHERE reason LIKE 'rewound to%'}) eq 't';
}

# mode: fast, smart or immediate.  Without waiting for the end.
sub request_stop {
    my ($self, $name, $mode) = @_;
    my %signal = (smart => 'TERM', fast => 'INT', immediate => 'QUIT');
    my $pid = $self->postmaster($name);
    $self->node($name)->{family} = [ family($pid) ];
    kill $signal{$mode}, $pid;
}

sub stop {
    my ($self, $name, $mode) = @_;
    my $pid = $self->postmaster($name);
    $self->request_stop($name, $mode // 'fast');
    $self->until_true($limit_default, "$name has stopped", sub { !is_running($pid) });
}

# SIGKILL to the postmaster alone: its children find out by themselves.
sub kill_postmaster {
    my ($self, $name, $just_before) = @_;
    my $pid = $self->postmaster($name);
    $self->node($name)->{family} = [ family($pid) ];
    $just_before->() if $just_before;
    kill 'KILL', $pid;
    $self->until_true(10, "the postmaster of $name is dead", sub { !is_running($pid) });
}

# SIGKILL to everything at once: nobody is left to say goodbye.
sub kill_everything {
    my ($self, $name) = @_;
    my @all = family($self->postmaster($name));
    $self->node($name)->{family} = [@all];
    kill 'KILL', @all;
    $self->until_true(10, "all processes of $name are dead", sub { !grep { is_running($_) } @all });
}

# SIGKILL to everything on all nodes that run, or on these, in one call: the power is gone.
sub power_off {
    my ($self, @names) = @_;
    my @all;
    for my $node (map { $self->node($_) } grep { is_running($self->postmaster($_)) } @names ? @names : $self->names) {
        $node->{family} = [ family($node->{pid}) ];
        push @all, @{ $node->{family} };
    }
    kill 'STOP', @all;    # or one that is still alive votes for another because a third is dead
    kill 'KILL', @all;
    $self->until_true(10, 'all processes of all nodes are dead', sub { !grep { is_running($_) } @all });
}

# What a server without pg_ha makes of a copy of the data directory of a node that is down: refused, standby or writable.
sub opens_without_pg_ha {
    my ($self, $name) = @_;
    my ($copy, $found) = ("$self->{dir}/copy", 'refused');
    $self->must_run('rm', '-rf', $copy);
    $self->must_run('cp', '-a', $self->data($name), $copy);
    unlink "$copy/postmaster.pid";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>>', "$self->{dir}/stock.log";
        open STDERR, '>&', \*STDOUT;
        exec "$self->{bindir}/postgres", '-D', $copy, '-c', 'shared_preload_libraries=' or POSIX::_exit(127);
    }
    my $end = time + 20;
    while (time < $end && is_running($pid)) {
        my ($status, $answer) = $self->try_sql($name, 'SELECT pg_is_in_recovery()', 5);
        next if $status != 0;
        $found = $answer eq 't' ? 'standby' : 'writable';
        last;
    }
    my @all = family($pid);
    kill 'KILL', @all;
    $self->until_true(10, 'the server on the copy is gone', sub { !grep { is_running($_) } @all });
    return $found;
}

# A background worker or another child of the postmaster, by what it calls itself.
sub process {
    my ($self, $name, $title) = @_;
    my $pid;
    $self->until_true(20, "$name has a process \"$title\"", sub { $pid = $self->program($name, qr{^postgres: \Q$title\E}) });
    return $pid;
}

# A program that the node has started and that runs now, by its command line (words end with "\0"); or undef.
sub program {
    my ($self, $name, $pattern) = @_;
    for my $pid (family($self->postmaster($name))) {
        open my $in, '<', "/proc/$pid/cmdline" or next;
        return $pid if (<$in> // '') =~ $pattern;
    }
    return;
}

# Called before anything is started: the servers get a pg_rewind that waits as long as there is a file `hold`.
sub hold_pg_rewind {
    my ($self) = @_;
    my ($from, $own) = ($self->{bindir}, "$self->{dir}/own");
    my ($bin, $share) = map { my $path = `pg_config --$_`; chomp $path; $path } qw(bindir sharedir);
    my $root = $from =~ s{\Q$bin\E$}{}r;
    $self->must_run('mkdir', '-p', "$own$bin", dirname("$own$share"));
    $self->must_run('sh', '-c', "cp -a $from/* $own$bin && ln -s $root$share $own$share && ln -s $root" . dirname($bin) . "/lib $own" . dirname($bin) . '/lib');
    unlink "$own$bin/pg_rewind" or die "unlink: $!";
    write_file("$own$bin/pg_rewind", <<"END");
#!/bin/sh
case " \$* " in *" --dry-run "*) ;; *) while [ -e $self->{dir}/hold ]; do sleep 0.05; done ;; esac
exec $bin/pg_rewind "\$@"
END
    chmod 0755, "$own$bin/pg_rewind" or die "chmod: $!";
    write_file("$self->{dir}/hold", '');
    $self->{bindir} = "$own$bin";
}

# That pg_rewind of this node's rejoin, before it has done anything, and stopped.
sub halted_rewind {
    my ($self, $name) = @_;
    my $pid;
    $self->until_true($limit_default, "pg_rewind of $name waits", sub { $pid = $self->program($name, qr{pg_rewind\0(?!.*--dry-run)}) });
    kill 'STOP', $pid;
    unlink "$self->{dir}/hold" or die "unlink: $!";
    return $pid;
}

# From its next start on this node reads none of its own WAL, and doesn't know what it has, until released.
# Recovery asks restore_command first.  With a segment: it reads all before that.
sub hold_recovery {
    my ($self, $name, $segment) = @_;
    write_file("$self->{dir}/hold-$name", '');
    my $held = $segment ? "test %f = $segment &&" : '';
    $self->write_node_settings($name, restore_command => "'while $held test -e \"$self->{dir}/hold-$name\"; do sleep 0.05; done; false'");
}
sub release_recovery {
    my ($self, $name) = @_;
    unlink "$self->{dir}/hold-$name" or die "unlink: $!";
}

sub freeze {
    my ($self, $name) = @_;
    my @all = family($self->postmaster($name));
    $self->node($name)->{frozen} = [@all];
    kill 'STOP', @all;
}

sub thaw {
    my ($self, $name) = @_;
    $self->forget_kept_standbys($name);
    kill 'CONT', @{ delete $self->node($name)->{frozen} // [] };
}

# This standby gets no more of the primary's WAL.
sub hold_stream {
    my ($self, $primary, $standby) = @_;
    my $sender = $self->sql($primary, "SELECT pid FROM pg_stat_replication WHERE application_name = '$standby'");
    kill 'STOP', $self->outer_pid($sender, $primary);
}

# Until it is started again, or thawed, this primary gives up no standby that is held, or silent, for some seconds: alone it
# would have no successor, and acknowledge.
sub keep_standbys {
    my ($self, $name) = @_;
    $self->sql($name, 'ALTER SYSTEM SET pg_ha.min_sync_standbys = 1');
    $self->sql($name, 'SELECT pg_reload_conf()');
}
sub forget_kept_standbys {
    my ($self, $name) = @_;
    my $path = $self->data($name) . '/postgresql.auto.conf';
    open my $in, '<', $path or return;
    my $text = do { local $/; <$in> };
    write_file($path, $text) if $text =~ s{^pg_ha\.min_sync_standbys.*\n}{}m;
}

# WAL that no standby will get: its walsenders stand still while rows are written.  Kill it, or freeze it.
sub diverge {
    my ($self, $name, $rows) = @_;
    $self->keep_standbys($name);
    my @senders = map { $self->outer_pid($_, $name) } split /\n/, $self->sql($name, 'SELECT pid FROM pg_stat_replication');
    kill 'STOP', @senders;
    $self->sql($name, "SET synchronous_commit = local; INSERT INTO filler"
        . " SELECT (SELECT coalesce(max(id), 0) FROM filler) + n, repeat('x', 100) FROM generate_series(1, $rows) n");
    return @senders;
}

# ---- questions ----------------------------------------------------------------------------------------------

# (status, answer, error text)
sub try_sql {
    my ($self, $name, $query, $limit) = @_;
    my ($status, $out, $err) = run_command($limit // 20, "$self->{bindir}/psql", qw(-XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=verbose),
        '-h', $self->node($name)->{host}, '-p', $self->node($name)->{port}, qw(-U postgres -d postgres -c), $query);
    chomp $out;
    return ($status, $out, $err);
}

sub sql {
    my ($self, $name, $query, $limit) = @_;
    local $ENV{PGCONNECT_TIMEOUT} = 20;    # of a server that answers
    my ($status, $out, $err) = $self->try_sql($name, $query, $limit);
    $self->give_up("on $name: $query\n$err") if $status != 0;
    return $out;
}

sub until_true {
    my ($self, $limit, $what, $check) = @_;
    my $end = time + $limit;
    until ($check->()) {
        $self->give_up("waited $limit s in vain until $what") if time > $end;
        sleep 0.03;
    }
    reap();
}

# Until the query answers `expected` (a string or a regular expression).  Passes as a test.
sub poll {
    my ($self, $name, $query, $expected, $what, $limit) = @_;
    $limit //= $limit_default;
    my $end = time + $limit;
    my $last;
    while (1) {
        my ($status, $out, $err) = $self->try_sql($name, $query);
        $last = $status == 0 ? $out : $err;
        last if $status == 0 && (ref $expected ? $out =~ $expected : $out eq $expected);
        $self->give_up("waited $limit s in vain: $what\n  on       $name\n  query    $query\n  expected $expected\n  last     $last")
            if time > $end;
        sleep 0.03;
    }
    reap();
    pass($what);
    return $last;
}

# The node that says it is the primary, among those named or all that run.
sub find_primary {
    my ($self, @among) = @_;
    for my $name (@among ? @among : $self->names) {
        my $pid = $self->postmaster($name);
        next if !$pid || !is_running($pid) || $self->node($name)->{frozen};
        my ($status, $out) = $self->try_sql($name, 'SELECT ha_is_primary()', 3);
        return $name if $status == 0 && $out eq 't';
    }
    return;
}

sub wait_primary {
    my ($self, @among) = @_;
    my $primary;
    $self->until_true($limit_default, "one of (@among) is the primary", sub { $primary = $self->find_primary(@among) });
    pass("$primary is the primary");
    return $primary;
}

my $streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = ";
sub streams {
    my ($self, $standby, $primary) = @_;
    return ($self->try_sql($primary, "$streaming'$standby'"))[1] eq '1';
}
sub wait_standby_of {
    my ($self, $standby, $primary, $limit) = @_;
    $self->poll($primary, "$streaming'$standby'", '1', "$standby streams from $primary", $limit);
    # One that was rewound or cloned streams some time before what it has is consistent and may be read.
    $self->until_true($limit // $limit_default, "$standby lets sessions in", sub { ($self->try_sql($standby, 'SELECT 1'))[0] == 0 });
}

# The same where it does not matter who leads: a busy machine may elect at any time.  Answers the primary.
sub wait_home {
    my ($self, $standby, $limit) = @_;
    my @others = grep { $_ ne $standby } $self->names;
    my $primary;
    $self->until_true($limit // 120, "$standby streams from the primary, whoever that is",
        sub { $primary = $self->find_primary(@others); return defined $primary && $self->streams($standby, $primary); });
    pass("$standby streams from $primary");
    $self->until_true($limit_default, "$standby lets sessions in", sub { ($self->try_sql($standby, 'SELECT 1'))[0] == 0 });
    return $primary;
}
sub wait_whole {
    my ($self, $limit) = @_;
    my ($voters, $primary) = scalar $self->names;
    $self->until_true($limit // $limit_default, "a failover is possible and all $voters nodes vote", sub {
        $primary = $self->find_primary;
        return defined $primary && ($self->try_sql($primary, 'SELECT failover_possible, voters FROM ha_cluster'))[1] eq "t|$voters";
    });
    pass("all $voters nodes vote, and $primary leads");
    return $primary;
}

# Exactly one node of those that answer is out of recovery and may acknowledge.
sub primaries {
    my ($self) = @_;
    return grep { ($self->try_sql($_, 'SELECT ha_is_primary()', 5))[1] eq 't' } $self->names;
}

# The same rows in these tables on all nodes that are named, once they have replayed what the primary has; and no page
# or index that amcheck (on the first: CREATE EXTENSION amcheck) finds damaged.
sub compare_data {
    my ($self, $primary, $names, @tables) = @_;
    # On a busy machine another may lead by now.
    my $reached = 'CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END';
    my $end = $self->sql($primary, "SELECT $reached");
    for my $name (@$names) {
        $self->until_true($limit_default, "$name has replayed everything",
            sub { $name eq $primary || $self->sql($name, "SELECT $reached >= '$end'") eq 't' });
        my @different = grep { $self->sql($name, $_, 120) ne $self->sql($primary, $_, 120) }
            map { "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM $_ t" } @tables;
        is("@different", '', "$name has the same rows as $primary");
        my ($status, $out, $err) = $self->try_sql($name, "SELECT count(bt_index_check(indexrelid, true)) > 100 FROM pg_index"
            . " JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = c.relam WHERE amname = 'btree' AND relpersistence = 'p'", 120);
        is("$out$err", 't', "no index of $name is damaged");
        ($status, $out, $err) = $self->try_sql($name, "SELECT coalesce(string_agg(format('%s: %s', c.oid::regclass, msg), E'\\n'), 'none')"
            . " FROM pg_class c, verify_heapam(c.oid) WHERE relkind IN ('r', 't', 'm') AND relpersistence = 'p'", 120);
        is("$out$err", 'none', "no table of $name is damaged");
    }
}

# How far pg_ha_rejoin is with this node, by its journal; empty: it was not asked to do anything.
sub rejoin_phase {
    my ($self, $name) = @_;
    open my $in, '<', $self->state_directory($name) . '/rejoin' or return '';
    my ($phase) = join('', <$in>) =~ m{^phase (\S+)$}m;
    return $phase // '';
}

# ---- logs -----------------------------------------------------------------------------------------------------

sub log_text {
    my ($self, $name, $offset) = @_;
    open my $in, '<', $self->node($name)->{log} or return '';
    seek $in, $offset // 0, 0;
    local $/;
    return <$in> // '';
}
sub log_size { return -s $_[0]->node($_[1])->{log} // 0; }

sub wait_log {
    my ($self, $name, $pattern, $what, $offset, $limit) = @_;
    $self->until_true($limit // $limit_default, "$what (in the log of $name: $pattern)",
        sub { $self->log_text($name, $offset) =~ $pattern });
    pass($what);
}

# ---- the writing client ------------------------------------------------------------------------------------------

sub start_writer {
    my ($self, @nodes) = @_;
    @nodes = $self->names unless @nodes;
    my $first_id = 1 + ($self->{runs}++ // 0) * 1_000_000;
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>>', "$self->{dir}/writer.log";
        open STDERR, '>&', \*STDOUT;
        exec "$self->{dir}/ledger", 'follow', '--hosts', $self->addresses(@nodes), '--out', "$self->{dir}/acknowledged", '--pause-us', '1000',
            '--first-id', $first_id
            or POSIX::_exit(127);
    }
    $self->{writer} = $pid;
}

sub acknowledged {
    my ($self) = @_;
    open my $in, '<', "$self->{dir}/acknowledged" or return 0;
    my $count = 0;
    while (<$in>) { ++$count if /A$/; }
    return $count;
}

# Acknowledged by one server, after so many by all.
sub acknowledged_by {
    my ($self, $name, $after) = @_;
    open my $in, '<', "$self->{dir}/acknowledged" or return 0;
    my $port = $self->node($name)->{port};
    my ($all, $count) = (0, 0);
    while (<$in>) { ++$count if /A$/ && ++$all > ($after // 0) && m{:$port }; }
    return $count;
}

sub wait_writes {
    my ($self, $more, $what) = @_;
    my $goal = $self->acknowledged + $more;
    $self->until_true($limit_default, "$more more writes are acknowledged ($what)",
        sub {
            $self->give_up("the writing client ended") unless is_running($self->{writer});
            $self->acknowledged >= $goal;
        });
    pass("writes are acknowledged: $what");
}

sub stop_writer {
    my ($self) = @_;
    my $pid = delete $self->{writer} or return;
    kill 'TERM', $pid;
    $self->until_true(10, 'the writing client ends', sub { !is_running($pid) });
}

# No acknowledged row is missing on this node, and no two acknowledged at a time.
sub verify_ledger {
    my ($self, $name) = @_;
    $self->stop_writer;
    my ($status, $out, $err) = run_command(60, "$self->{dir}/ledger", 'verify', '--hosts', $self->addresses($name),
        '--out', "$self->{dir}/acknowledged");
    chomp $out;
    ok($status == 0 && $out =~ /"acknowledged": [1-9]/, "$name has every acknowledged row ($out)") or diag($err);
    return $out =~ /"lost": (\d+)/ ? $1 : undef;
}

# ---- the end ------------------------------------------------------------------------------------------------------

sub show_logs {
    my ($self) = @_;
    for my $name ($self->names) {
        my @lines = split /\n/, $self->log_text($name);
        my $from = @lines > 40 ? @lines - 40 : 0;
        diag("----- $name, last lines of $self->{nodes}{$name}{log}", map { "\n$_" } @lines[ $from .. $#lines ]);
    }
}

# What each server that answers thinks of the cluster.
sub show_states {
    my ($self) = @_;
    for my $name (grep { my $node = $self->node($_); $node->{pid} && is_running($node->{pid}) && !$node->{frozen} } $self->names) {
        my (undef, $rows, $error) = $self->try_sql($name, 'SELECT name, role, liveness, term, timeline, lsn, streaming, reason FROM ha_members ORDER BY name', 5);
        diag("----- $name says:\n$rows$error");
    }
}

sub give_up {
    my ($self, $text) = @_;
    alarm 0;
    fail((split /\n/, $text)[0]);
    diag($text);
    $self->show_states;
    done_testing();
    exit 1;
}

sub kill_all_nodes {
    my ($self) = @_;
    my @all = map { my $pid = $_->{pid}; ($pid ? family($pid) : (), @{ $_->{family} }) } values %{ $self->{nodes} };
    push @all, grep { defined } $self->{writer}, map { $_->pid } @{ $self->{helpers} };
    @all = grep { is_running($_) } @all;
    kill 'KILL', @all if @all;
    my $end = time + 10;
    sleep 0.02 while time < $end && grep { is_running($_) } @all;
    remove_shared_memory($_->{data}) for values %{ $self->{nodes} };
}

# A killed server leaves its System V segment, and a system has only some thousand; line 7 of its lock file names it.
sub remove_shared_memory {
    my ($data) = @_;
    open my $lock_file, '<', "$data/postmaster.pid" or return;
    my ($key, $id) = map { /^\s*(\d+)\s+(\d+)/ } (<$lock_file>)[6] // '';
    shmctl($id, 0, 0) if defined $id && (shmget($key, 0, 0) // -1) == $id;    # IPC_RMID
}

# For tests that need one cluster after the other.
sub end {
    my ($self) = @_;
    $self->kill_all_nodes;
    @clusters = grep { $_ != $self } @clusters;
    chdir '/';
    remove_tree($self->{dir});
}

END {
    my $status = $?;
    alarm 0;
    # Not in a child that a signal ends before it has become another program.
    for my $self (grep { $_->{test} == $$ } @clusters) {
        $self->kill_all_nodes;
        chdir '/';
        if ($status == 0 && Test::More->builder->is_passing) { remove_tree($self->{dir}, { error => \my $still_mounted }); }
        else {
            $self->show_logs;
            diag("everything was kept in $self->{dir}");
        }
    }
    $? = $status;
}

1;
