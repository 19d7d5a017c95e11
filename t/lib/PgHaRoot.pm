# SPDX-License-Identifier: PostgreSQL
#
# A helper process that stays root when the test becomes the user postgres: it runs commands and starts processes that
# need root.  When the test ends, however it ends, the helper ends what is left, as `cleanup` says, and then itself.
package PgHaRoot;

use strict;
use warnings;
use IO::Handle;
use PgHaCluster;
use POSIX qw(setsid);
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);

# cleanup: called in the helper at the end, when what it spawned was killed.
sub new {
    my ($class, $cleanup) = @_;
    socketpair(my $ours, my $its, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!\n";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        close $ours;
        serve($its, $cleanup);
    }
    close $its;
    $ours->autoflush(1);
    return bless { pipe => $ours, pid => $pid }, $class;
}

# Words travel in hexadecimal: anything may be in them.
sub pack_words { return join(' ', map { unpack('H*', $_) || '-' } @_) . "\n"; }
sub unpack_words { return map { $_ eq '-' ? '' : pack('H*', $_) } split / /, $_[0]; }

sub serve {
    my ($pipe, $cleanup) = @_;
    $pipe->autoflush(1);
    $SIG{$_} = 'IGNORE' for qw(INT TERM HUP PIPE);
    my %spawned;
    while (defined(my $line = <$pipe>)) {
        chomp $line;
        my ($verb, @words) = unpack_words($line);
        my @answer = $verb eq 'spawn' ? spawn_here(@words) : PgHaCluster::run_command(@words);
        $spawned{ $answer[0] } = started_at($answer[0]) if $verb eq 'spawn';
        print $pipe pack_words(@answer);
    }
    for my $pid (keys %spawned) { kill 'KILL', $pid if $spawned{$pid} eq started_at($pid); }
    $cleanup->();
    POSIX::_exit(0);
}

# Tells a process from a later one with the same number.
sub started_at {
    my ($pid) = @_;
    open my $in, '<', "/proc/$pid/stat" or return 'gone';
    return (split ' ', <$in> =~ s{^.*\)}{}r)[19];
}

# The process becomes a child of the test, which adopts orphans.
sub spawn_here {
    my ($log, @command) = @_;
    pipe(my $read, my $write) or die $!;
    my $middle = fork() // die "fork: $!";
    if (!$middle) {
        my $pid = fork() // die "fork: $!";
        if ($pid) {
            syswrite $write, "$pid\n";
            POSIX::_exit(0);
        }
        setsid();
        chdir '/';
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $log;
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    close $write;
    chomp(my $pid = <$read>);
    waitpid $middle, 0;
    return $pid;
}

sub ask {
    my ($self, @words) = @_;
    my $pipe = $self->{pipe};
    print $pipe pack_words(@words);
    my $answer = <$pipe> // die "the helper that is root is gone\n";
    chomp $answer;
    return unpack_words($answer);
}

# (status, stdout, stderr)
sub run {
    my ($self, $limit, @command) = @_;
    return $self->ask('run', $limit, @command);
}

# Process id.
sub spawn {
    my ($self, $log, @command) = @_;
    return ($self->ask('spawn', $log, @command))[0];
}

# Waits until the helper has cleaned up and is gone.
sub leave {
    my ($self) = @_;
    close $self->{pipe};
    waitpid $self->{pid}, 0;
}

1;
