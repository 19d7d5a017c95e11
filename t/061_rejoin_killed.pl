# SPDX-License-Identifier: PostgreSQL
#
# kill -9 of everything in the middle of a rejoin, in each of its phases.  The next start finishes it; a
# start without pg_ha, on a copy, finds a standby or nothing it could open; never a writable server.
# PG_HA_KILL_POINTS=40 sweeps more points (make rejoin-sweep).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;
use Time::HiRes qw(sleep time);

my $points = $ENV{PG_HA_KILL_POINTS} // 6;
my @phases = qw(hiding recovering saving rewinding finishing rewinding);
my $cluster = PgHaCluster->new(limit => 240 + 30 * $points, nodes => [qw(london paris rome)]);
$cluster->start_all;
make_filler($cluster, 20000);
my $new = die_diverged($cluster, 'london', 5000);
$cluster->stop_writer;

my $data = $cluster->data('london');
my ($state, $kept) = ("$data.pg_ha", "$cluster->{dir}/kept");
$cluster->must_run('cp', '-a', $data, $kept);
unlink "$kept/postmaster.pid";    # its number may be another's by the time of the next start

my %killed;
srand 1;
for my $point (1 .. $points) {
    my $wanted = $phases[ $point % @phases ];
    my $delay = $point <= 6 ? 0 : rand 0.4;
    $cluster->must_run('rm', '-rf', $data);
    $cluster->must_run('cp', '-a', $kept, $data);
    unlink "$state/rejoin";
    $cluster->launch('london');
    my $end = time + 60;
    my $seen = '';
    while (time < $end && ($seen = $cluster->rejoin_phase('london')) ne 'done') { # short phases may go by unseen
        last if $seen eq $wanted;
        sleep 0.001;
    }
    sleep $delay;
    $cluster->kill_everything('london');
    my $at = $cluster->rejoin_phase('london');
    $killed{$at}++;
    my $stock = $cluster->opens_without_pg_ha('london');
    isnt($stock, 'writable', "killed in phase $at: without pg_ha it is $stock");
    $cluster->start('london');
    $new = $cluster->wait_home('london');
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the next start ends as a standby');
    $cluster->compare_data($new, ['london'], 'filler');
    $cluster->kill_everything('london');
}
diag("killed at: " . join(', ', map { "$_ $killed{$_}" } sort keys %killed)) if $points > 6;
cmp_ok(scalar(keys %killed), '>=', $points > 6 ? 4 : 3, 'several phases were hit: ' . join(' ', sort keys %killed));
$cluster->verify_ledger($new);
done_testing();
