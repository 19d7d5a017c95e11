# SPDX-License-Identifier: PostgreSQL
#
# The whole primary is frozen past its lease under a writing client and then goes on: a machine that
# was paused.  Its first instruction may be an acknowledgement under way; it must give none.
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
$cluster->wait_writes(300, 'before the freeze');

$cluster->freeze('london');
my $new = $cluster->wait_primary('paris', 'rome');
my $elected_at = $cluster->acknowledged;
$cluster->wait_writes(300, 'while the old primary is frozen');
$cluster->thaw('london');

# What the thawed node says while it finds out.  Writing to it directly, past every router.
my $end = time + 3;
my ($tries, $acknowledged) = (0, 0);
while (time < $end) {
    my ($status) = $cluster->try_sql('london', 'INSERT INTO ledger VALUES (-' . ++$tries . ', 0)', 10);
    ++$acknowledged if $status == 0;
}
is($acknowledged, 0, "the thawed node acknowledged none of $tries direct writes");
is($cluster->acknowledged_by('london', $elected_at), 0, 'nor did the writing client get one from it');
$cluster->wait_writes(100, 'after the thaw');
is_deeply([ $cluster->primaries ], [$new], 'there is exactly one primary');
$cluster->wait_standby_of('london', $new);
$cluster->poll('london', 'SELECT pg_is_in_recovery(), count(*) > 0 FROM ledger', 't|t',
    'the old primary restarts in place as a standby and can be read');
isnt($cluster->sql('london', 'SELECT reason FROM ha_cluster'), '', 'it says why it is what it is');
$cluster->verify_ledger($new);
done_testing();
