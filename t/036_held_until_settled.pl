# SPDX-License-Identifier: PostgreSQL
#
# A new primary may have WAL that no other server has.  Until the sync set has it, sessions see and write
# nothing, since it could vanish with the next failover; who looks for the reason can ask.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaSession;
use Test::More;

my $cluster = PgHaCluster->new(settings => "pg_ha.fence_wait = '200ms'\npg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
PgHaCluster::append($cluster->data('rome') . '/postgresql.conf', "pg_ha.failover_priority = 0\n");
kill 'HUP', $cluster->postmaster('rome');
$cluster->poll('london', q{SELECT priority FROM ha_members WHERE name = 'rome'}, '0', 'rome is not to be elected');
$cluster->hold_stream('london', 'rome');    # paris has all that rome has, whatever london writes
$cluster->sql('london', 'INSERT INTO ledger VALUES (1, 0)');
$cluster->poll('paris', 'SELECT count(*) FROM ledger', '1', 'paris has the row');
my $paris = 'port=' . $cluster->node('paris')->{port} . ' user=postgres';
my $open = PgHaSession->new($cluster, $paris);
is($open->ask('BEGIN; SELECT count(*) FROM ledger'), '1', 'a session reads it there');
my $patient = PgHaSession->new($cluster, $paris);
$patient->ask(q{SET pg_ha.fence_wait = '60s'});

# Without its startup process rome votes, but gets no WAL from its new primary.
my $startup = $cluster->process('rome', 'startup');
kill 'STOP', $startup or die "cannot stop the startup process: $!";
$cluster->kill_everything('london');
$cluster->poll('paris', 'SELECT ha_is_primary()', 't', 'paris is the primary');

for my $what ('SELECT count(*) FROM ledger', 'INSERT INTO ledger VALUES (2, 0)', 'TRUNCATE ledger', 'COPY ledger TO STDOUT') {
    my ($status, $out, $error) = $cluster->try_sql('paris', $what);
    ok($status != 0 && $error =~ /ERROR:  HA006.*HINT/s, "$what is held, then refused") or diag("$out$error");
}
like($open->ask('SELECT count(*) FROM ledger'), qr/ERROR:  HA006/, 'so it is in a session that came before the promotion');
is($cluster->sql('paris', 'SELECT role FROM ha_cluster'), 'primary', 'the status can be read');
is($cluster->sql('paris', 'SELECT 1'), '1', 'and a probe is answered');
$patient->begin('SELECT count(*) FROM ledger');
is($patient->answer(0.5), undef, 'who can wait, waits');
kill 'CONT', $startup;
is($patient->answer, '1', 'and sees everything when a standby has it');
$cluster->sql('paris', 'INSERT INTO ledger VALUES (2, 0)');
is($cluster->sql('paris', 'SELECT count(*) FROM ledger'), '2', 'from then on nobody is held');
done_testing();
