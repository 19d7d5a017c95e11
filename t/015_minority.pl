# SPDX-License-Identifier: PostgreSQL
#
# One of three alone: a primary without a majority stops acknowledging and says so; a standby
# without a majority never elects itself.  Reads go on, and the way back needs no operator.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
$cluster->start_writer;
$cluster->wait_writes(200, 'all there');
$cluster->stop_writer;

# The primary alone.
$cluster->kill_everything($_) for qw(paris rome);
$cluster->poll('london', 'SELECT quorum FROM ha_cluster', 'f', 'london notices that it is alone');
$cluster->poll('london', 'SELECT ha_is_primary()', 'f', 'and is not the primary any more');
my ($status, undef, $error) = $cluster->try_sql('london', 'INSERT INTO ledger VALUES (-1, 0)');
isnt($status, 0, 'a commit is refused');
like($error, qr/25006/, 'with SQLSTATE 25006');
like($error, qr/HINT/, 'and a hint');
is($cluster->sql('london', 'SELECT count(*) > 0 FROM ledger'), 't', 'reads go on');
is($cluster->sql('london', 'SELECT failover_possible FROM ha_cluster'), 'f', 'ha_cluster: no failover is possible');
isnt($cluster->sql('london', 'SELECT failover_reason FROM ha_cluster'), '', 'and why');

# One comes back: a majority, so it goes on without anybody's help.
$cluster->start('paris');
my $primary = $cluster->wait_primary('london', 'paris');
$cluster->start_writer('london', 'paris');
$cluster->wait_writes(100, 'two of three are enough');
$cluster->stop_writer;

# A standby alone: for five leases nobody becomes primary.
my ($survivor) = grep { $_ ne $primary } qw(london paris);
$cluster->kill_everything($primary);
my $end = time + 5;
my $elected = 0;
while (time < $end) {
    ++$elected if $cluster->sql($survivor, 'SELECT NOT pg_is_in_recovery() OR ha_is_primary()') eq 't';
    sleep 0.1;
}
is($elected, 0, 'a standby alone does not elect itself');
$cluster->poll($survivor, 'SELECT quorum FROM ha_cluster', 'f', 'it says that it hears no majority');
$cluster->poll($survivor, 'SELECT reason FROM ha_cluster', qr/./, 'and why it does nothing');

# All back.
$cluster->start($_) for 'rome', $primary;
my $new = $cluster->wait_primary;
$cluster->verify_ledger($new);
done_testing();
