# SPDX-License-Identifier: PostgreSQL
#
# Where pg_rewind cannot work, the old primary clones itself anew, beside the old directory; and where
# the primary cannot be reached nothing is touched at all.
use strict;
use warnings;
use File::Find;
use FindBin;
use IO::Socket::INET;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;

# Neither checksums nor wal_log_hints: pg_rewind refuses.
my $cluster = PgHaCluster->new(limit => 900, checksums => 0, settings => "wal_log_hints = off\n");
$cluster->start_all;
make_filler($cluster, 0);
my $new = die_diverged($cluster, 'london', 2000);

# The primary and the standby that the helper is told of stay what they are.
$cluster->sql($new, 'SELECT ha_pause()');

# Everything that lies in the data directory: names, kinds, times, and the content of every file.
my $data = $cluster->data('london');
sub contents { return $cluster->must_run('sh', '-c', "cd '$data' && find . -type f -print0 | sort -z | xargs -0 sha256sum"); }
sub fingerprint {
    my @lines;
    find({ no_chdir => 1, wanted => sub { my @stat = lstat $_; push @lines, join ' ', $_, @stat[1, 2, 7, 9, 10] } }, $data);
    return join "\n", sort(@lines), contents();
}

# The helper alone, on a server that is down, told of a primary that is not there, or is another one.
my $state = "$data.pg_ha";
my $system = $cluster->sql($new, 'SELECT system_identifier FROM pg_control_system()');
my $timeline = $cluster->sql($new, 'SELECT timeline_id FROM pg_control_checkpoint()');
my ($standby) = grep { $_ ne $new && $_ ne 'london' } $cluster->names;
my %port = (nobody => 1, map { $_ => $cluster->node($_)->{port} } $new, $standby);
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $!";
$port{silent} = $silent->sockport;
sub attempt {
    my ($leader, $system, $timeline) = @_;
    my $conninfo = "user=postgres host=127.0.0.1 port=$port{$leader}" . ($leader eq 'silent' ? ' connect_timeout=1' : '');
    open my $out, '>', "$state/rejoin" or die $!;
    print $out "format 2\nphase requested\npostmaster 0\ndata_directory $data\nprogram_directory $cluster->{bindir}\n",
        "system_identifier $system\nleader $leader\nconninfo $conninfo\ncandidate.$leader $conninfo\n",
        "term $timeline\ntimeline $timeline\nown 1/100\nfork 1/50\nend\n";
    close $out;
    my ($status, undef, $log) = PgHaCluster::run_command(60, "$cluster->{bindir}/pg_ha_rejoin", '--state-directory', $state);
    my $same = fingerprint();
    return ($status, $log, $same);
}

my $before = fingerprint();
my $identical = 0;
my %why = ('nobody' => qr{Connection refused}, 'silent' => qr{timeout expired}, 'another system' => qr{another database system},
    'a standby' => qr{not the primary any more}, 'another timeline' => qr{is on timeline $timeline, not 99});
my @attempts = (('nobody') x 84, 'silent', ('another system', 'a standby', 'another timeline') x 5);
for my $kind (@attempts) {
    my ($status, $log, $after) = attempt(
        $kind eq 'a standby' ? $standby : $kind =~ /^another/ ? $new : $kind,
        $kind eq 'another system' ? $system + 1 : $system,
        $kind eq 'another timeline' ? 99 : $timeline);
    ++$identical if $status == 10 && $after eq $before && $log =~ $why{$kind};
    diag("$kind: status $status\n$log") if $status != 10 || $log !~ $why{$kind};
}
is($identical, 100, '100 of 100 attempts without the primary that was meant left every byte as it was');
my $contents = contents();
cmp_ok(scalar(() = $contents =~ /\n/g), '>', 900, 'the content of every file was looked at');
write_a_byte();
isnt(contents(), $contents, 'one changed bit is noticed');
write_a_byte();

# Changes one bit in a file, or changes it back.
sub write_a_byte {
    my ($path) = glob "$data/base/*/1259";
    open my $file, '+<:raw', $path or die $!;
    seek $file, 5000, 0;
    read $file, my $byte, 1;
    seek $file, 5000, 0;
    print $file chr(ord($byte) ^ 1);
    close $file;
}
unlink "$state/rejoin";
$cluster->sql($new, 'SELECT ha_resume()');

my $log = $cluster->log_size('london');
$cluster->start('london');
$cluster->wait_home('london');
$new = $cluster->wait_whole;
like($cluster->log_text('london', $log), qr{cloning anew: pg_rewind cannot be used: .*wal_log_hints}s, 'it says why it was cloned');
$cluster->poll('london', "SELECT count(*) FROM ha_events WHERE reason LIKE 'cloned anew%is kept in%'", '1', 'so do the events');
$cluster->wait_writes(100, 'london is back');
$cluster->stop_writer;
$cluster->compare_data($new, ['london'], qw(ledger filler));
$cluster->verify_ledger('london');
is(join(' ', grep { -e $cluster->data('london') . "/$_" } qw(pg_ha.rejoin pg_ha.clone pg_ha.old)), '', 'nothing is left behind');
$cluster->poll($new, "SELECT count(*) FROM ha_members", 3, 'the old identity is gone');
done_testing();
