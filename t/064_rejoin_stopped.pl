# SPDX-License-Identifier: PostgreSQL
#
# pg_ctl stop in each mode at any moment of a rejoin ends the server promptly, and never leaves one that can be written
# to, or one that cannot be started: the next start finishes what was begun.  PG_HA_STOP_POINTS=40 for more moments.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;
use Time::HiRes qw(sleep time);

my $points = $ENV{PG_HA_STOP_POINTS} // 9;
my $cluster = PgHaCluster->new(limit => 300 + 30 * $points);
$cluster->start_all;
make_filler($cluster, 20000);
my $new = die_diverged($cluster, 'london', 5000);
$cluster->stop_writer;

my $data = $cluster->data('london');
my ($journal, $kept) = ("$data.pg_ha/rejoin", "$cluster->{dir}/kept");
$cluster->must_run('cp', '-a', $data, $kept);
unlink "$kept/postmaster.pid";    # its number may be another's by the time of the next start

sub phase { return $cluster->rejoin_phase('london'); }

# How long a whole rejoin takes here.
sub restore { $cluster->must_run('rm', '-rf', $data); $cluster->must_run('cp', '-a', $kept, $data); unlink $journal; }
restore();
my $begun = time;
$cluster->launch('london');
$cluster->until_true(60, 'the first rejoin is done', sub { phase() eq 'done' });
my $whole = time - $begun;
$cluster->stop('london', 'immediate');

my (%stopped, $slowest);
my @modes = qw(fast smart immediate);
srand 1;
for my $point (1 .. $points) {
    my $mode = $modes[ $point % @modes ];
    restore();
    $cluster->launch('london');
    sleep rand $whole;
    my $at = phase() || 'before it is asked for';
    my $from = time;
    $cluster->request_stop('london', $mode);
    my $pid = $cluster->postmaster('london');
    sleep 0.01 while PgHaCluster::is_running($pid) && time < $from + 20;
    if (PgHaCluster::is_running($pid)) {
        # PostgreSQL's own: a fast or smart stop between the start of recovery in a crash-restart cycle and its first report.
        ok(phase() =~ m{^(done|requested|given_up|)$}, "a $mode stop that is not heeded ($at) is PostgreSQL's, no helper runs");
        diag("$mode stop at $at was not heeded within 20 s");
        $cluster->stop('london', 'immediate');
    } else {
        my $took = time - $from;
        $slowest = $took if $took > ($slowest // 0);
        pass("a $mode stop ($at) ends the server");
    }
    ++$stopped{$at};
    $cluster->start('london');
    $new = $cluster->wait_home('london');
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the next start ends as a standby');
    $cluster->compare_data($new, ['london'], 'filler');
    $cluster->kill_everything('london');
}
diag(sprintf 'stopped at: %s; slowest stop %.1f s', join(', ', map { "$_ $stopped{$_}" } sort keys %stopped), $slowest);
cmp_ok($slowest, '<', 10, 'every stop was prompt');
$cluster->verify_ledger($new);
done_testing();
