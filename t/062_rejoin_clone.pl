# SPDX-License-Identifier: PostgreSQL
#
# Where pg_rewind cannot work, the old primary clones itself anew, beside the old directory; and where
# the primary cannot be reached nothing is touched at all.
use strict;
use warnings;
use Digest::MD5;
use File::Find;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

# Neither checksums nor wal_log_hints: pg_rewind refuses.
my $cluster = PgHaCluster->new(checksums => 0, settings => "wal_log_hints = off\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
$cluster->start_writer;
$cluster->wait_writes(200, 'before the kill');
$cluster->diverge('london', 2000);
$cluster->kill_everything('london');
my $new = $cluster->wait_primary('paris', 'rome');
$cluster->wait_writes(200, "on $new");

# Everything that lies in the data directory, by content.
sub fingerprint {
    my ($directory, $contents) = @_;
    my $sum = Digest::MD5->new;
    my @paths;
    find({ no_chdir => 1, wanted => sub { push @paths, $_ } }, $directory);
    for my $path (sort @paths) {
        my @stat = lstat $path;
        $sum->add(join ' ', $path, @stat[1, 2, 7, 9, 10], "\n");    # a change of any byte changes the times
        next unless $contents && -f _;
        open my $in, '<:raw', $path or die "$path: $!";
        $sum->addfile($in);
    }
    return $sum->hexdigest;
}

# The helper alone, on a server that is down, told of a primary that nobody hears.
my $state = $cluster->data('london') . '.pg_ha';
my $system = $cluster->sql($new, 'SELECT system_identifier FROM pg_control_system()');
my ($before, $contents) = map { fingerprint($cluster->data('london'), $_) } 0, 1;
my $identical = 0;
for (1 .. 100) {
    open my $out, '>', "$state/rejoin" or die $!;
    print $out "format 1\nphase requested\npostmaster 0\ndata_directory ", $cluster->data('london'), "\nprogram_directory ",
        $cluster->{bindir}, "\nsystem_identifier $system\nleader nobody\nconninfo user=postgres host=127.0.0.1 port=1\n",
        "candidate.nobody user=postgres host=127.0.0.1 port=1\nterm 2\ntimeline 2\nown 1/100\nfork 1/50\nend\n";
    close $out;
    my ($status) = PgHaCluster::run_command(20, "$cluster->{bindir}/pg_ha_rejoin", '--state-directory', $state);
    ++$identical if $status == 10 && fingerprint($cluster->data('london')) eq $before;
}
is(fingerprint($cluster->data('london'), 1), $contents, 'nor did the last change a byte');
is($identical, 100, '100 of 100 attempts without a primary left the data directory as it was');
unlink "$state/rejoin";

my $log = $cluster->log_size('london');
$cluster->start('london');
$cluster->wait_standby_of('london', $new);
$cluster->wait_ready($new);
like($cluster->log_text('london', $log), qr{cloning anew: pg_rewind cannot be used: .*wal_log_hints}s, 'it says why it was cloned');
$cluster->poll('london', "SELECT count(*) FROM ha_events WHERE reason LIKE 'cloned anew%is kept in%'", '1', 'so do the events');
$cluster->wait_writes(100, 'london is back');
$cluster->stop_writer;
my $end = $cluster->sql($new, 'SELECT pg_current_wal_flush_lsn()');
$cluster->poll('london', "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', 'london has caught up');
for my $query ('SELECT count(*), sum(id) FROM ledger', 'SELECT count(*) FROM filler') {
    is($cluster->sql('london', $query), $cluster->sql($new, $query), "the same data: $query");
}
$cluster->verify_ledger('london');
is(join(' ', grep { -e $cluster->data('london') . "/$_" } qw(pg_ha.rejoin pg_ha.clone pg_ha.old)), '', 'nothing is left behind');
is($cluster->sql($new, "SELECT count(*) FROM ha_members"), 3, 'the old identity is gone');
done_testing();
