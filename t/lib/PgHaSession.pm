# SPDX-License-Identifier: PostgreSQL
#
# A session that stays open: psql behind two pipes, for tests in which something happens to the server
# between two statements or while one is running.
package PgHaSession;

use strict;
use warnings;
use IO::Select;
use POSIX ();
use Time::HiRes qw(time);

my $marks = 0;

# host: "port=... user=..." and the like.
sub new {
    my ($class, $cluster, $conninfo) = @_;
    my $psql = "$cluster->{bindir}/psql";
    pipe(my $in_read, my $in_write) or die $!;
    pipe(my $out_read, my $out_write) or die $!;
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDIN, '<&', $in_read;
        open STDOUT, '>&', $out_write;
        open STDERR, '>&', $out_write;
        close $_ for $in_read, $in_write, $out_read, $out_write;
        exec { $psql } $psql, qw(-XAtq -v VERBOSITY=verbose), "host=127.0.0.1 dbname=postgres $conninfo"
            or POSIX::_exit(127);
    }
    close $in_read;
    close $out_write;
    $in_write->autoflush(1);
    return bless { pid => $pid, in => $in_write, out => $out_read, text => '' }, $class;
}

# Sends a statement without waiting for its end.
sub begin {
    my ($self, $sql) = @_;
    local $SIG{PIPE} = 'IGNORE';
    $self->{mark} = 'end of answer ' . ++$marks;
    print { $self->{in} } "$sql;\n\\echo $self->{mark}\n";
}

# What psql printed until that statement's end, or until psql itself ended; undef: not within `limit` seconds.
sub answer {
    my ($self, $limit) = @_;
    my $end = time + ($limit // 20);
    my $select = IO::Select->new($self->{out});
    my $at;
    while (($at = index $self->{text}, "$self->{mark}\n") < 0) {
        my $left = $end - time;
        return if $left <= 0 || !$select->can_read($left);
        return $self->take(length $self->{text}) if !sysread $self->{out}, $self->{text}, 65536, length $self->{text};
    }
    my $answer = $self->take($at);
    $self->take(1 + length $self->{mark});
    return $answer;
}

sub take {
    my ($self, $count) = @_;
    my $text = substr $self->{text}, 0, $count, '';
    chomp $text;
    return $text;
}

sub ask {
    my ($self, $sql, $limit) = @_;
    $self->begin($sql);
    return $self->answer($limit);
}

sub leave {
    my ($self) = @_;
    CORE::close($self->{in});
    CORE::close($self->{out});
    waitpid $self->{pid}, 0;
}

1;
