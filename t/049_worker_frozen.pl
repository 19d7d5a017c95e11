# SPDX-License-Identifier: PostgreSQL
#
# Only the node worker of the primary is frozen; its backends go on.  The lease that nobody renews ends by
# itself, and with it all commits, before another node is elected.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'before');
my $worker = $cluster->process('london', 'pg_ha node');
kill 'STOP', $worker or die "cannot stop the node worker: $!";
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new", $new);
my $told = $ledger->acknowledged('london');
my ($status, undef, $error) = $cluster->try_sql('london', 'INSERT INTO ledger VALUES (-1, 0)');
ok($status != 0 && $error =~ /25006/, 'a backend of the old primary refuses a commit') or diag($error);
is($cluster->sql('london', 'SELECT ha_is_primary()'), 'f', 'which is not the primary any more');
kill 'CONT', $worker;
$cluster->bring_back('london', $new);
is($ledger->acknowledged('london'), $told, 'it acknowledged nothing since');
$ledger->verify($new);
done_testing();
