# SPDX-License-Identifier: PostgreSQL
#
# ha_failover() in a paused cluster, on a standby that cannot be elected: the other one has received more WAL after
# it was last heard.  The order ends with the answer, which names the server to call it on; nobody is elected later.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaSession;
use Test::More;
use Time::HiRes qw(time);

# A worker that stands still for half a lease still counts as heard.
my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '10s'\npg_ha.fence_wait = '300ms'\nautovacuum = off\n");
$cluster->start_all;
$cluster->sql('london', 'SELECT ha_pause()');
$cluster->poll($_, 'SELECT paused FROM ha_cluster', 't', "$_ knows of the pause") for qw(paris rome);
my ($order, $writer) = map { PgHaSession->new($cluster, 'port=' . $cluster->node($_)->{port} . ' user=postgres') } qw(paris london);
$_->ask('SELECT 1') for $order, $writer;

# -- London says nothing any more, but writes on
kill 'STOP', map { $cluster->process('london', $_) } 'walwriter', 'checkpointer', 'background writer', 'pg_ha node';
$cluster->poll('paris', q{SELECT failover_reason LIKE 'elections are paused and there is no primary%' FROM ha_cluster}, 't', 'paris misses a primary', 60);
$cluster->poll('paris', q{SELECT count(DISTINCT (timeline, lsn)) FROM ha_members WHERE name IN ('paris', 'rome')}, '1', 'paris and rome have the same WAL');
$cluster->hold_stream('london', 'paris');
my $rome = $cluster->process('rome', 'pg_ha node');
kill 'STOP', $rome;
$order->begin('SELECT ha_failover()');
$cluster->poll('paris', q{SELECT reason FROM ha_members WHERE name = 'paris'}, qr/^stands by an operator's order, and is not elected yet/,
    'paris asks for votes, and asks again');
$writer->begin('SELECT pg_switch_wal()');
$cluster->until_true(30, 'rome has more WAL than paris', sub {
    my ($paris, $rome) = map { $cluster->sql($_, q{SELECT pg_last_wal_receive_lsn() - '0/0'}) } qw(paris rome);
    return $rome > $paris;
});
$cluster->kill_everything('london');
kill 'CONT', $rome;

my $answer = $order->answer(40) // 'nothing';
like($answer, qr/HA007: no election by order: rome has more WAL/, 'the order ends, and the answer says why');
my $port = $cluster->node('rome')->{port};
like($answer, qr/HINT:  Call it on "rome": host 127.0.0.1, port $port/, 'and where to call it');
$cluster->poll('paris', q{SELECT count(*) FROM ha_events WHERE reason LIKE '%order to stand has ended: rome has more WAL%'}, '1', 'ha_events has it, too');
my ($until, $elected) = (time + 5, 0);
$cluster->until_true(20, 'five seconds pass', sub {
    $elected = grep { ($cluster->try_sql($_, 'SELECT pg_is_in_recovery()'))[1] =~ /f/ } qw(paris rome);
    return $elected || time > $until;
});
is($elected, 0, 'nobody is elected later');
like($cluster->sql('rome', 'SELECT ha_failover()', 70), qr/rome is the primary/, 'called on rome it succeeds');
$cluster->poll('paris', 'SELECT ha_primary() IS NOT NULL', 't', 'paris follows');
is_deeply([ $cluster->primaries ], ['rome'], 'there is exactly one primary');
$_->leave for $order, $writer;
done_testing();
