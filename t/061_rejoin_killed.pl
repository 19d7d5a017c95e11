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
use Test::More;
use Time::HiRes qw(sleep time);

my $points = $ENV{PG_HA_KILL_POINTS} // 6;
my @phases = qw(hiding recovering saving rewinding finishing rewinding);
my $cluster = PgHaCluster->new(limit => 240 + 30 * $points, nodes => [qw(london paris rome)]);
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
# Rows of before the fork are changed on both sides: pages that only a rewind can bring together.
$cluster->sql($new, 'UPDATE filler SET text = repeat(\'y\', 100) WHERE id % 3 = 0');

my $data = $cluster->data('london');
my ($state, $kept, $copy) = ("$data.pg_ha", "$cluster->{dir}/kept", "$cluster->{dir}/copy");
$cluster->must_run('cp', '-a', $data, $kept);

sub phase {
    open my $in, '<', "$state/rejoin" or return '';
    my ($phase) = join('', <$in>) =~ m{^phase (\S+)$}m;
    return $phase // '';
}

# What a server without pg_ha makes of the directory as it lies there.
sub stock_start {
    $cluster->must_run('rm', '-rf', $copy);
    $cluster->must_run('cp', '-a', $data, $copy);
    unlink "$copy/postmaster.pid";
    my $port = $cluster->node('london')->{port};
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>>', "$cluster->{dir}/stock.log";
        open STDERR, '>&', \*STDOUT;
        exec "$cluster->{bindir}/postgres", '-D', $copy, '-c', 'shared_preload_libraries=' or POSIX::_exit(127);
    }
    my $end = time + 20;
    my $found = 'refused';
    while (time < $end && PgHaCluster::is_running($pid)) {
        my ($status, $answer) = $cluster->try_sql('london', 'SELECT pg_is_in_recovery()', 5);
        next if $status != 0;
        $found = $answer eq 't' ? 'standby' : 'writable';
        last;
    }
    my @all = PgHaCluster::family($pid);
    kill 'KILL', @all;
    $cluster->until_true(10, 'the server on the copy is gone', sub { !grep { PgHaCluster::is_running($_) } @all });
    return $found;
}

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
    while (time < $end && ($seen = phase()) ne 'done') { # short phases may go by unseen
        last if $seen eq $wanted;
        sleep 0.001;
    }
    sleep $delay;
    $cluster->kill_everything('london');
    my $at = phase();
    $killed{$at}++;
    my $stock = stock_start();
    isnt($stock, 'writable', "killed in phase $at: without pg_ha it is $stock");
    $cluster->start('london');
    $cluster->wait_standby_of('london', $new);
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the next start ends as a standby');
    my $lsn = $cluster->sql($new, 'SELECT pg_current_wal_flush_lsn()');
    $cluster->poll('london', "SELECT pg_last_wal_replay_lsn() >= '$lsn'", 't', 'which catches up');
    my $rows = 'SELECT count(*), sum(id), md5(string_agg(text, \'\' ORDER BY id)) FROM filler';
    is($cluster->sql('london', $rows), $cluster->sql($new, $rows), 'and has the same rows');
    is($cluster->sql('london', "SELECT count(bt_index_check(indexrelid, true)) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        . " JOIN pg_am a ON a.oid = c.relam WHERE amname = 'btree' AND relpersistence = 'p'") > 100, 1, 'amcheck finds nothing');
    $cluster->kill_everything('london');
}
diag("killed at: " . join(', ', map { "$_ $killed{$_}" } sort keys %killed)) if $points > 6;
cmp_ok(scalar(keys %killed), '>=', $points > 6 ? 4 : 3, 'several phases were hit: ' . join(' ', sort keys %killed));
$cluster->verify_ledger($new);
done_testing();
