# SPDX-License-Identifier: PostgreSQL
#
# A standby is promoted by hand, past pg_ha: it takes the number that the next elected primary's timeline
# will have.  What it wrote is on nobody else, so it must never be taken for a copy of that primary: no
# stream, no acknowledgement, and no commit lost.  And it comes home by itself, whatever was elected meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(sleep);

my ($cluster, $obstacle, $primary);

# Paris is promoted by hand, and the others elect a primary without knowing of it.  Answers the number of that one's timeline.
sub promote_and_elect {
    $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
    $cluster->start_all;
    $cluster->sql('london', 'SELECT pg_switch_wal()');
    $cluster->sql('london', 'INSERT INTO ledger SELECT -g, 0 FROM generate_series(1, 100) g');
    $cluster->poll('paris', 'SELECT count(*) FROM ledger', 100, 'paris has everything');

    # What it may do as long as nobody rewinds it.
    $obstacle = "$cluster->{dir}/paris.pg_ha/rejoin.new";
    mkdir $obstacle or die "mkdir: $!";
    my ($status) = PgHaCluster::run_command(20, "$cluster->{bindir}/pg_ctl", '-D', $cluster->data('paris'), qw(promote -W));
    is($status, 0, 'paris is promoted by hand');
    # It is writable for a moment.  What is refused has been written to its WAL all the same.
    my $acknowledged = 0;
    $cluster->until_true(20, 'paris is a standby again', sub {
        my ($done) = $cluster->try_sql('paris', 'INSERT INTO ledger SELECT -1000 - g, 0 FROM generate_series(1, 20000) g');
        ++$acknowledged if $done == 0;
        return $cluster->log_text('paris') =~ /restarting as a standby/;
    });
    is($acknowledged, 0, 'it acknowledged nothing');
    $cluster->wait_log('paris', qr/promoted by hand: it restarts as standby|is not usable: it knows terms up to 1, but the server is on timeline 2/, 'it comes back without a vote');
    is($cluster->sql('london', 'SELECT ha_is_primary()'), 't', 'the primary goes on');
    $cluster->poll('london', 'SELECT reason FROM ha_members WHERE name = \'paris\'', qr/rewound/, 'and says what is to be done about paris');
    $cluster->start_writer(qw(london rome));
    $cluster->wait_writes(100, 'with two of three');

    # All are stopped; london and rome elect a new term without knowing of paris.
    $cluster->stop_writer;
    $cluster->stop($_) for qw(paris rome london);
    $cluster->start($_) for qw(london rome);
    $primary = $cluster->wait_primary('london', 'rome');
    $cluster->start_writer(qw(london rome));
    $cluster->wait_writes(300, 'in the new term');
    return $cluster->sql($primary, 'SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)');
}

# A slow disk costs a ballot, and the number with it.
my $timeline;
for my $attempt (1 .. 5) {
    $timeline = promote_and_elect();
    last if $timeline eq '00000002';
    $cluster->end;
}
is($timeline, '00000002', 'on the timeline that paris has, too');
$cluster->start('paris');
$cluster->wait_writes(300, 'with paris back as a standby');
my $streamed = 0;
for (1 .. 30) {
    $streamed += $cluster->sql($primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'paris' AND state = 'streaming'");
    sleep 0.1;
}
is($streamed, 0, 'paris does not stream from a primary whose history it does not share');

# Its WAL is ahead of everybody's.  Still it is no candidate when the primary is lost, not even with rome's help.
$cluster->stop_writer;
my ($other) = grep { $_ ne $primary } qw(london rome);
$cluster->kill_everything($primary);
my $elected = 0;
for (1 .. 40) {
    ++$elected if defined $cluster->find_primary('paris');
    sleep 0.1;
}
is($elected, 0, 'paris is not elected');
$cluster->start($primary);
$primary = $cluster->wait_primary('london', 'rome');
$cluster->start_writer(qw(london rome));
$cluster->wait_writes(100, 'in the term after that');

# That term's timeline has a history which names paris' number.  paris lives on, did not fetch it ...
my ($newest) = $cluster->sql($primary, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
cmp_ok(hex $newest, '>', 2, 'the primary is on a later timeline');
is($cluster->sql('paris', 'SELECT pg_is_in_recovery()'), 't', 'paris has not died of it');
ok(!-e $cluster->data('paris') . "/pg_wal/$newest.history", 'and has no history of it');
# ... and if it had, by its archive for instance, it would start all the same.
$cluster->stop('paris', 'immediate');
$cluster->must_run('cp', map { $cluster->data($_) . "/pg_wal/$newest.history" } $primary, 'paris');
my $log = $cluster->log_size('paris');
rmdir $obstacle or die "rmdir: $!";
$cluster->start('paris');
$cluster->wait_log('paris', qr/removing the history file of timeline @{[hex $newest]}/, 'recovery is not shown a history that is not its own', $log);

# pg_rewind would take the two timelines of the number 2 for one.
$cluster->wait_log('paris', qr/cloning anew: a promotion by hand made timeline 2/, 'paris is cloned', $log);
$cluster->wait_standby_of('paris', $primary, 120);
$cluster->wait_ready($primary);
$cluster->wait_writes(100, 'with paris at home');
$cluster->verify_ledger($primary);
$cluster->sql($primary, 'CREATE EXTENSION amcheck');
$cluster->compare_data($primary, [ $cluster->names ], 'ledger');
is($cluster->sql('paris', 'SELECT count(*) FROM ledger WHERE id < -1000'), 0, 'nothing of what it wrote by hand');
like(join('', glob($cluster->data('paris') . '.pg_ha/diverged/*/00000002*')), qr/00000002/, 'which is kept aside');
done_testing();
