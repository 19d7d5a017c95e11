# SPDX-License-Identifier: PostgreSQL
#
# The sync set follows who streams: a stopped standby leaves it and commits go on, it comes back once it has
# caught up; a standby whose walreceiver hangs is lost as well; with pg_ha.min_sync_standbys commits wait.
# synchronous_standby_names follows on every node, and no server is restarted for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my %postmaster = map { $_ => $cluster->postmaster($_) } qw(london paris);

# Names in the order of the list, which is that of their identities.
sub sync_set_is {
    my ($quorum, @names) = @_;
    my $expected = join ',', sort @names;
    $cluster->poll('london', "SELECT write_quorum || ' ' || string_agg(m.name, ',' ORDER BY m.name)"
        . ' FROM ha_cluster, ha_members m WHERE m.in_sync_set GROUP BY write_quorum', "$quorum $expected",
        "the sync set is $expected, the write quorum $quorum");
}

sub setting_on {
    my ($count, $names, @nodes) = @_;
    for my $node (@nodes) {
        $cluster->until_true(60, "synchronous_standby_names on $node is ANY $count of $names", sub {
            my (undef, $value) = $cluster->try_sql($node, 'SHOW synchronous_standby_names');
            return 0 unless $value =~ m{^ANY $count \((.*)\)$};
            return join(',', sort map { s{"}{}gr } split /,/, $1) eq $names;
        });
        pass("synchronous_standby_names on $node is ANY $count of $names");
    }
}

sync_set_is(2, qw(london paris rome));
setting_on(1, 'london,paris,rome', qw(london paris rome));
$cluster->start_writer;
$cluster->wait_writes(100, 'all three run');

# Stopped: out, and commits go on.
$cluster->stop('rome', 'immediate');
sync_set_is(2, qw(london paris));
setting_on(1, 'london,paris', qw(london paris));
$cluster->wait_writes(100, 'one standby is gone');
like($cluster->log_text('london'), qr/sync set loses rome: not (heard|streaming) for 2\.0 s/, 'the log says who is lost, and why');

# Back: in again, but not before it streams.
$cluster->start('rome');
sync_set_is(2, qw(london paris rome));
setting_on(1, 'london,paris,rome', qw(london paris rome));
ok($cluster->streams('rome', 'london'), 'who is counted streams');

# Both walreceivers hang while everything else runs: the primary goes on alone, and nobody else may be elected.
my @hung = map { $cluster->process($_, 'walreceiver') } qw(paris rome);
kill 'STOP', @hung;
sync_set_is(1, qw(london));
$cluster->wait_writes(100, 'no standby streams');
$cluster->poll('london', 'SELECT failover_possible, failover_reason FROM ha_cluster',
    qr/^f\|no other node is sure to have every commit: the sync set is london; (paris, rome|rome, paris) must stream and catch up first/,
    'no failover is possible, and it says who has to catch up');
kill 'CONT', @hung;
sync_set_is(2, qw(london paris rome));

# With a minimum they stay, and commits wait.
$cluster->sql('london', 'ALTER SYSTEM SET pg_ha.min_sync_standbys = 2');
$cluster->sql('london', 'SELECT pg_reload_conf()');
sync_set_is(3, qw(london paris rome));
setting_on(2, 'london,paris,rome', qw(london paris rome));
$cluster->wait_writes(50, 'two standbys are demanded, and there');
$cluster->stop('rome', 'immediate');
$cluster->poll('london', 'SELECT reason FROM ha_cluster', qr/^commits wait: min_sync_standbys = 2, and rome is not/,
    'ha_cluster says what commits wait for');
my ($status) = $cluster->try_sql('london', 'INSERT INTO ledger VALUES (-1, 0)', 3);
is($status, 124, 'a commit waits');
sync_set_is(3, qw(london paris rome));
$cluster->start('rome');
$cluster->wait_writes(50, 'it is back');

is($cluster->postmaster($_), $postmaster{$_}, "$_ was not restarted") for qw(london paris);
$cluster->verify_ledger('london');
done_testing();
