# SPDX-License-Identifier: PostgreSQL
#
# Attempts at a rejoin that find no primary, or not the one that is meant: the helper alone, on a server that is down.
# Each has to leave the data directory as it was, to the byte.  It looks at names, kinds, times and contents, and
# says what it found; it judges nothing.
package PgHaUntouched;

use strict;
use warnings;
use Exporter qw(import);
use File::Find;
use IO::Socket::INET;
use PgHaCluster;
use Time::HiRes qw(time);

our @EXPORT = qw(contents_of rejoins_without_leader);

# A line for each file, with its hash.
sub contents_of {
    my ($cluster, $data) = @_;
    return $cluster->must_run('sh', '-c', "cd '$data' && find . -type f -print0 | sort -z | xargs -0 sha256sum");
}

sub fingerprint {
    my ($cluster, $data) = @_;
    my @lines;
    find({ no_chdir => 1, wanted => sub { my @stat = lstat $_; push @lines, join ' ', $_, @stat[1, 2, 7, 9, 10] } }, $data);
    return join "\n", sort(@lines), contents_of($cluster, $data);
}

# 100 attempts on `old`, which is down and has diverged from the primary `new`.  Answers for each what it was, whether it
# was refused for the reason that it should be, whether every byte is as it was, and how long the helper took.
sub rejoins_without_leader {
    my ($cluster, $old, $new) = @_;
    $cluster->sql($new, 'SELECT ha_pause()');    # on a slow machine another would be elected meanwhile
    my $data = $cluster->data($old);
    my $state = $cluster->state_directory($old);
    my $system = $cluster->sql($new, 'SELECT system_identifier FROM pg_control_system()');
    # Its control file may still name the timeline before.
    my $timeline = hex substr $cluster->sql($new, 'SELECT pg_walfile_name(pg_current_wal_lsn())'), 0, 8;
    my ($standby) = grep { $_ ne $new && $_ ne $old } $cluster->names;
    my %port = (nobody => 1, map { $_ => $cluster->node($_)->{port} } $new, $standby);
    my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $!";
    $port{silent} = $silent->sockport;
    my %why = ('nobody' => qr{Connection refused}, 'silent' => qr{timeout expired}, 'another system' => qr{another database system},
        'a standby' => qr{not the primary any more}, 'another timeline' => qr{is on timeline $timeline, not 99});
    my $before = fingerprint($cluster, $data);
    my @found;
    for my $kind (('nobody') x 84, 'silent', ('another system', 'a standby', 'another timeline') x 5) {
        my $leader = $kind eq 'a standby' ? $standby : $kind =~ /^another/ ? $new : $kind;
        my $begin = time;
        my ($status, $log) = attempt($cluster, $state, data => $data, leader => $leader, port => $port{$leader},
            system => $system + ($kind eq 'another system'), timeline => $kind eq 'another timeline' ? 99 : $timeline);
        push @found, { kind => $kind, ms => 1000 * (time - $begin), refused => $status == 10 && $log =~ $why{$kind} ? 1 : 0,
            identical => fingerprint($cluster, $data) eq $before ? 1 : 0, log => "status $status\n$log" };
    }
    unlink "$state/rejoin";
    $cluster->sql($new, 'SELECT ha_resume()');
    return @found;
}

sub attempt {
    my ($cluster, $state, %told) = @_;
    my $conninfo = "user=postgres host=127.0.0.1 port=$told{port}" . ($told{leader} eq 'silent' ? ' connect_timeout=1' : '');
    PgHaCluster::write_file("$state/rejoin", <<"END");
format 2
phase requested
postmaster 0
data_directory $told{data}
program_directory $cluster->{bindir}
system_identifier $told{system}
leader $told{leader}
conninfo $conninfo
candidate.$told{leader} $conninfo
term $told{timeline}
timeline $told{timeline}
own 1/100
fork 1/50
end
END
    my ($status, undef, $log) = PgHaCluster::run_command(60, "$cluster->{bindir}/pg_ha_rejoin", '--state-directory', $state);
    return ($status, $log);
}

1;
