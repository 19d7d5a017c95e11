# SPDX-License-Identifier: PostgreSQL
#
# Where pg_rewind cannot work, the old primary clones itself anew, beside the old directory; and where
# the primary cannot be reached nothing is touched at all.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use PgHaUntouched;
use Test::More;

# Neither checksums nor wal_log_hints: pg_rewind refuses.
my $cluster = PgHaCluster->new(limit => 900, checksums => 0, settings => "wal_log_hints = off\n");
$cluster->start_all;
make_filler($cluster, 0);
my $new = die_diverged($cluster, 'london', 2000);

my @attempts = rejoins_without_leader($cluster, 'london', $new);
my @good = grep { $_->{refused} && $_->{identical} } @attempts;
is(@good . ' of ' . @attempts, '100 of 100', 'attempts without the primary that was meant left every byte as it was');
diag("$_->{kind}: $_->{log}") for grep { !$_->{refused} } @attempts;
my $data = $cluster->data('london');
my $contents = contents_of($cluster, $data);
cmp_ok(scalar(() = $contents =~ /\n/g), '>', 900, 'the content of every file was looked at');
write_a_byte();
isnt(contents_of($cluster, $data), $contents, 'one changed bit is noticed');
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
