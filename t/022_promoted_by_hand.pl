# SPDX-License-Identifier: PostgreSQL
#
# A standby is promoted by hand, past pg_ha: it takes the number that the next elected primary's timeline
# will have.  What it wrote is on nobody else, so it must never be taken for a copy of that primary: no
# stream, no acknowledgement, and no commit lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(sleep);

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
$cluster->sql('london', 'SELECT pg_switch_wal()');
$cluster->sql('london', 'INSERT INTO ledger SELECT -g, 0 FROM generate_series(1, 100) g');
$cluster->poll('paris', 'SELECT count(*) FROM ledger', 100, 'paris has everything');

my ($status) = PgHaCluster::run_command(20, "$cluster->{bindir}/pg_ctl", '-D', $cluster->data('paris'), 'promote');
is($status, 0, 'paris is promoted by hand');
($status) = $cluster->try_sql('paris', 'INSERT INTO ledger SELECT -1000 - g, 0 FROM generate_series(1, 20000) g');
isnt($status, 0, 'it acknowledges nothing');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 't', 'the primary goes on');
$cluster->poll('london', 'SELECT reason FROM ha_members WHERE name = \'paris\'', qr/rewind/, 'and says what to do about paris');
$cluster->start_writer(qw(london rome));
$cluster->wait_writes(100, 'with two of three');

# All are stopped; london and rome elect a new term without knowing of paris.
$cluster->stop_writer;
$cluster->stop($_) for qw(paris rome london);
$cluster->start($_) for qw(london rome);
my $primary = $cluster->wait_primary('london', 'rome');
$cluster->start_writer(qw(london rome));
$cluster->wait_writes(300, 'in the new term');
is($cluster->sql($primary, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), '00000002', 'on the timeline that paris has, too');
$cluster->start('paris');
$cluster->wait_writes(300, 'with paris back as a standby');
my $streamed = 0;
for (1 .. 30) {
    $streamed += $cluster->sql($primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'paris' AND state = 'streaming'");
    sleep 0.1;
}
is($streamed, 0, 'paris does not stream from a primary whose history it does not share');
$cluster->verify_ledger($primary);
done_testing();
