# SPDX-License-Identifier: PostgreSQL
#
# kill -9 of everything, and stops in each mode, while an old primary clones itself anew or changes places with its
# clone.  Every stop is prompt.  A start without pg_ha, on a copy, finds a standby or nothing it could open; the next
# start finishes the clone, and nothing is left over.  PG_HA_CLONE_POINTS=20 for more moments (make rejoin-sweep).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;
use Time::HiRes qw(sleep time);

my $points = $ENV{PG_HA_CLONE_POINTS} // 5;
# Neither checksums nor wal_log_hints: pg_rewind refuses.
my $cluster = PgHaCluster->new(limit => 300 + 60 * $points, checksums => 0, settings => "wal_log_hints = off\npg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
make_filler($cluster, 100000);
my $new = die_diverged($cluster, 'london', 5000);
$cluster->stop_writer;
my $data = $cluster->data('london');
my ($state, $kept) = ("$data.pg_ha", "$cluster->{dir}/kept");
$cluster->must_run('cp', '-a', $_, $kept . ($_ eq $data ? '' : '.pg_ha')) for $data, $state;
unlink "$kept/postmaster.pid";    # its number may be another's by the time of the next start

my @ways = ([qw(kill cloning)], [qw(fast cloning)], [qw(kill swapping)], [qw(smart cloning)], [qw(immediate cloning)]);
my (%interrupted, $slowest);
srand 1;
for my $point (1 .. $points) {
    my ($how, $wanted) = @{ $ways[ ($point - 1) % @ways ] };
    $cluster->must_run('rm', '-rf', $data, $state);
    $cluster->must_run('cp', '-a', $kept, $data);
    $cluster->must_run('cp', '-a', "$kept.pg_ha", $state);
    $cluster->launch('london');
    my ($end, $at) = (time + 90, '');
    sleep 0.001 until ($at = $cluster->rejoin_phase('london')) =~ /^($wanted|swapping|done)$/ || time > $end;
    sleep rand 0.5 if $at eq 'cloning';
    my ($from, $pid) = (time, $cluster->postmaster('london'));
    if ($how eq 'kill') { $cluster->kill_everything('london') }
    else {
        $cluster->request_stop('london', $how);
        $cluster->until_true(60, "a $how stop ends the server", sub { !PgHaCluster::is_running($pid) });
        $slowest = time - $from if time - $from > ($slowest // 0);
    }
    $at = $cluster->rejoin_phase('london');
    ++$interrupted{$at};
    my $stock = $cluster->opens_without_pg_ha('london');
    isnt($stock, 'writable', "$how in phase $at: without pg_ha it is $stock");
    $cluster->start('london');
    $cluster->wait_home('london');
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the next start ends as a standby');
    $new = $cluster->wait_whole(120);
    $cluster->compare_data($new, ['london'], qw(ledger filler));
    is(join(' ', grep { -e "$data/$_" } qw(pg_ha.rejoin pg_ha.clone pg_ha.old)), '', 'nothing is left behind');
    $cluster->kill_everything('london');
}
note(sprintf 'interrupted at: %s; slowest stop %.1f s', join(', ', map { "$_ $interrupted{$_}" } sort keys %interrupted), $slowest);
cmp_ok($interrupted{cloning} // 0, '>=', 1, 'clones were interrupted');
cmp_ok($slowest, '<', 10, 'every stop was prompt');
$cluster->start('london');
$cluster->verify_ledger($cluster->wait_home('london'));
done_testing();
