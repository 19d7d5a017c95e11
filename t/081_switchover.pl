# SPDX-License-Identifier: PostgreSQL
#
# What operators order: ha_switchover() hands over without losing a row or rewinding anybody, and refuses
# what cannot succeed; under ha_pause() nobody is elected but the last primary, or who is told to;
# ha_remove_member() forgets who is gone, and only that.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaSession;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgHaCluster->new;
$cluster->start_all;

sub refused {
    my ($name, $query, $expected, $what) = @_;
    my ($status, undef, $err) = $cluster->try_sql($name, $query);
    ok($status != 0 && $err =~ $expected, $what) or diag($err);
    like($err, qr/HINT:/, "$what: with a hint");
}

# -- refused, and nothing has changed
$cluster->wait_ready('london');
refused('paris', 'SELECT ha_switchover()', qr/not the primary.*Call it on "london"/s, 'not on a standby');
refused('london', "SELECT ha_switchover('berlin')", qr/no member of the cluster is called "berlin"/, 'not to a stranger');
refused('london', "SELECT ha_switchover('london')", qr/HA008.*london is the primary already/s, 'not to itself');
refused('london', "SELECT ha_remove_member('rome')", qr/HA008.*stop it first/s, 'a member that runs is not removed');
is($cluster->find_primary, 'london', 'london is still the primary');

# -- switchover, by name and to the best
$cluster->start_writer;
$cluster->wait_writes(200, 'before the switchover');
my $pid = $cluster->postmaster('london');
like($cluster->sql('london', "SELECT ha_switchover('paris')"), qr/handed over in term 1/, 'the answer arrives');
is($cluster->wait_primary('paris'), 'paris', 'paris is the primary');
$cluster->wait_writes(200, 'on paris');
ok(!$cluster->bring_back('london', 'paris'), 'london is a standby again, without a rewind');
is($cluster->postmaster('london'), $pid, 'under the same postmaster');
$cluster->wait_ready('paris');
$cluster->stop_writer;
# Flushed WAL that ends within a record, as the WAL writer leaves it while nobody commits: no standby can replay that far.
my @flushers = map { $cluster->process('paris', $_) } 'checkpointer', 'background writer', 'walwriter';
kill 'STOP', @flushers[ 0, 1 ];    # they will not end the record
my $open = PgHaSession->new($cluster, 'port=' . $cluster->node('paris')->{port} . ' user=postgres');
$open->ask('BEGIN');
$cluster->until_true(60, 'the flushed WAL of paris ends within a record', sub {
    my $end = $cluster->sql('paris', q{SELECT pg_current_wal_flush_lsn() = pg_current_wal_insert_lsn(), (pg_current_wal_flush_lsn() - '0/0') % 8192 = 0});
    # Again if the commit of a background process has flushed it all.
    $open->ask(q{SELECT length(pg_logical_emit_message(false, 'long', repeat('x', 20000))::text)}) if $end =~ /^t/;
    return $end eq 'f|t';
});
kill 'STOP', $flushers[2];
like($cluster->sql('paris', 'SELECT ha_switchover()'), qr/handed over/, 'that stands in nobody\'s way');
kill 'CONT', @flushers;
$open->leave;
$cluster->start_writer;
my $best = $cluster->wait_primary('london', 'rome');
$cluster->wait_writes(200, "on $best");
$cluster->bring_back('paris', $best);
$cluster->wait_ready($best);

# -- a successor that does not receive WAL: given up or refused, and the primary goes on
my ($target, $third) = grep { $_ ne $best } $cluster->names;
my @receiver = split /\n/, $cluster->sql($target, 'SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', @receiver;
my ($status, undef, $err) = $cluster->try_sql($best, "SELECT ha_switchover('$target')");
kill 'CONT', @receiver;
ok($status != 0 && $err =~ /HA008/, 'no switchover to who receives nothing') or diag($err);
is($cluster->find_primary, $best, "$best goes on");
$cluster->wait_writes(200, 'as before');
$cluster->wait_ready($best);

# -- pause: the death of the primary leads to no failover; it comes back as the primary
is($cluster->sql($best, 'SELECT ha_pause()'), 'elections are paused', 'paused');
is($cluster->sql($best, 'SELECT ha_pause()'), 'elections are paused', 'twice is as well');
$cluster->poll($best, 'SELECT paused FROM ha_cluster', 't', 'the view shows it');
$cluster->poll($target, 'SELECT paused FROM ha_cluster', 't', 'on a standby too');
$cluster->poll($best, 'SELECT failover_reason FROM ha_cluster', qr/paused/, 'and says so where it matters');
$cluster->kill_everything($best);
my $until = time + 5;
my $elected = 0;
$cluster->until_true(10, 'five seconds pass', sub {
    $elected = grep { ($cluster->try_sql($_, 'SELECT pg_is_in_recovery()'))[1] =~ /f/ } $target, $third;
    return $elected || time > $until;
});
is($elected, 0, 'nobody takes over');
$cluster->start($best);
is($cluster->wait_primary, $best, 'the old primary leads again');
$cluster->wait_writes(200, 'on it');

# -- pause, and the primary stays away: a standby that is told to takes over without any loss
$cluster->poll($best, q{SELECT array_length(string_to_array(sync_set, ','), 1) FROM ha_cluster}, '3', 'all three hold every commit', 60);
$cluster->kill_everything($best);
$cluster->poll($target, q{SELECT failover_reason LIKE 'elections are paused and there is no primary%' FROM ha_cluster}, 't', 'the standby says what to do', 30);
$cluster->until_true(60, 'a standby leads by order, the one with the most WAL', sub {
    my @order = ($target, $third);
    for my $name (@order) {
        my ($failed, $answer, $why) = $cluster->try_sql($name, 'SELECT ha_failover()', 70);
        diag($why) if $failed && $why !~ /HA007.*(call it there|less than one lease ago)/s;
        ($target, $third) = ($name, grep { $_ ne $name } @order) if !$failed;
        return 1 if !$failed && $answer =~ /$name is the primary/;
    }
    return 0;
});
$cluster->wait_writes(200, "on $target");
is($cluster->sql($target, 'SELECT ha_resume()'), 'elections go on', 'the pause ends');
$cluster->poll($target, 'SELECT paused FROM ha_cluster', 'f', 'and the view shows it');

# -- removal of who is gone; it comes back as a new member
$cluster->poll($target, "SELECT liveness FROM ha_members WHERE name = '$best'", 'unreachable', "$best is away", 30);
is($cluster->sql($target, "SELECT ha_remove_member('$best')"), "$best is no member any more", 'removed');
$cluster->poll($target, 'SELECT count(*) FROM ha_members', '2', 'two are left');
$cluster->start($best);
$cluster->bring_back($best, $target);
$cluster->wait_ready($target);
$cluster->poll($target, "SELECT count(*) FROM ha_members WHERE name = '$best' AND voter", '1', 'it votes again');
$cluster->verify_ledger($target);
is_deeply([ $cluster->primaries ], [$target], 'there is exactly one primary');
done_testing();
