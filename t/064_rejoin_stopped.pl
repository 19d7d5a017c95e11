# SPDX-License-Identifier: PostgreSQL
#
# pg_ctl stop in each mode at any moment of a rejoin ends the server promptly, and never leaves one that can be written
# to, or one that cannot be started: the next start finishes what was begun.  PG_HA_STOP_POINTS=40 for more moments.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $points = $ENV{PG_HA_STOP_POINTS} // 9;
my $cluster = PgHaCluster->new(limit => 300 + 30 * $points);
$cluster->start_all;
$cluster->sql('london', 'CREATE EXTENSION amcheck');
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
$cluster->sql('london', 'INSERT INTO filler SELECT n, repeat(\'x\', 100) FROM generate_series(1, 20000) n');
$cluster->start_writer;
$cluster->wait_writes(100, 'before the kill');
$cluster->diverge('london', 5000);
$cluster->kill_everything('london');
my $new = $cluster->wait_primary('paris', 'rome');
$cluster->wait_writes(100, "on $new");
$cluster->stop_writer;
$cluster->sql($new, 'UPDATE filler SET text = repeat(\'y\', 100) WHERE id % 3 = 0');

my $data = $cluster->data('london');
my ($journal, $kept) = ("$data.pg_ha/rejoin", "$cluster->{dir}/kept");
$cluster->must_run('cp', '-a', $data, $kept);

sub phase {
    open my $in, '<', $journal or return '';
    my ($phase) = join('', <$in>) =~ m{^phase (\S+)$}m;
    return $phase // '';
}

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
    $cluster->wait_standby_of('london', $new);
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the next start ends as a standby');
    my $lsn = $cluster->sql($new, 'SELECT pg_current_wal_flush_lsn()');
    $cluster->poll('london', "SELECT pg_last_wal_replay_lsn() >= '$lsn'", 't', 'which catches up');
    my $rows = 'SELECT count(*), sum(id), md5(string_agg(text, \'\' ORDER BY id)) FROM filler';
    is($cluster->sql('london', $rows), $cluster->sql($new, $rows), 'and has the same rows');
    is($cluster->sql('london', "SELECT bt_index_check('filler_pkey', true) IS NOT NULL"), 't', 'amcheck finds nothing');
    $cluster->kill_everything('london');
}
diag(sprintf 'stopped at: %s; slowest stop %.1f s', join(', ', map { "$_ $stopped{$_}" } sort keys %stopped), $slowest);
cmp_ok($slowest, '<', 10, 'every stop was prompt');
$cluster->verify_ledger($new);
done_testing();
