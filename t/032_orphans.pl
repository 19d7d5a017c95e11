# SPDX-License-Identifier: PostgreSQL
#
# The postmaster dies by SIGKILL.  Its busy backends do not notice: they go on with loops that commit, with a
# batch that ends in COMMIT, with pipelines.  From the moment at which the node worker has zeroed the lease
# none of them may tell anybody that something is committed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use PgHaSession;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '10s'\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE loops (id bigint PRIMARY KEY)');
$cluster->sql('london', 'CREATE PROCEDURE forever(first bigint) LANGUAGE plpgsql AS $$ BEGIN FOR i IN first..first + 999999 LOOP '
    . 'INSERT INTO loops VALUES (i); COMMIT; RAISE NOTICE \'committed %.\', i; END LOOP; END $$');
my $ledger = PgHaLedger->new($cluster, sessions => 4, pipelined => 2);
$ledger->start;

my $conninfo = 'port=' . $cluster->node('london')->{port} . ' user=postgres';
my @loops = map { PgHaSession->new($cluster, $conninfo) } 1 .. 2;
$loops[$_]->begin("CALL forever(${_}000000)") for 0 .. $#loops;
my $watch = PgHaSession->new($cluster, $conninfo);
$watch->begin('DO $$ BEGIN WHILE (SELECT lease_left > interval \'0\' FROM ha_cluster) LOOP END LOOP; '
    . 'RAISE NOTICE \'lease gone at %.\', extract(epoch FROM clock_timestamp()); END $$');
my $batch = PgHaSession->new($cluster, $conninfo);
$batch->begin('BEGIN\; INSERT INTO loops VALUES (-1)\; DO $$ BEGIN WHILE (SELECT lease_left > interval \'0\' FROM ha_cluster) '
    . 'LOOP END LOOP; END $$\; COMMIT\; SELECT \'committed\'');
$cluster->poll('london', 'SELECT min(id) >= 0 AND count(*) > 200 AND max(id) > 1000000 FROM loops', 't', 'the loops commit');
$ledger->wait(300, 'before the postmaster dies', 'london');

my $killed = time;
$cluster->kill_postmaster('london');
my $told = $watch->answer;
like($told, qr/lease gone at ([\d.]+)\./, 'the lease is zeroed while the backends still run');
my ($gone) = ($told // '') =~ /lease gone at (\d+\.\d+)/;
note(sprintf 'after %.1f ms', 1000 * (($gone // 0) - $killed));
cmp_ok(($gone // 0) - $killed, '<', 5, 'long before it would have ended by itself, after 9 s');
unlike($batch->answer // '', qr/committed/, 'a batch under way is not answered as committed');
my @last = map { my @ids = (($_->answer // 'none') =~ /committed (\d+)\./g); $ids[-1] // -1 } @loops;
cmp_ok($_, '>', 0, "a loop was told up to $_") for @last;

my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(300, "from $new", $new);
is($cluster->sql($new, "SELECT count(*) FROM loops WHERE id = $_"), '1', "$new has $_, the last of which a loop was told") for @last;
is($cluster->sql($new, 'SELECT count(*) FROM loops WHERE id = -1'), '0', 'nobody has the batch');
$ledger->verify($new);
done_testing();
