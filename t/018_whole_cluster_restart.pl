# SPDX-License-Identifier: PostgreSQL
#
# Power comes back: all three servers were killed together and start in any order.  None wakes up as
# a primary; they elect one, which has every acknowledged row.  Then the same after three clean stops.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->start_writer;
$cluster->wait_writes(300, 'before the power cut');
$cluster->power_off;

# The last primary alone is not enough, whatever it remembers.
$cluster->start('london');
is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the last primary starts as a standby');
$cluster->start($_) for qw(paris rome);
my $primary = $cluster->wait_primary;
$cluster->wait_writes(200, 'after the power cut');
is_deeply([ $cluster->primaries ], [$primary], 'there is exactly one primary');
$cluster->verify_ledger($primary);

$cluster->request_stop($_, 'fast') for $cluster->names;
$cluster->until_true(60, 'all servers have stopped',
    sub { !grep { PgHaCluster::is_running($cluster->postmaster($_)) } $cluster->names });
# Together: one that was being rewound opens when it has a primary again.
$cluster->launch($_) for reverse $cluster->names;
$cluster->poll($_, 'SELECT 1', '1', "$_ accepts connections", 120) for $cluster->names;
$primary = $cluster->wait_primary;
$cluster->start_writer;
$cluster->wait_writes(200, 'after the clean restart');
is_deeply([ $cluster->primaries ], [$primary], 'there is exactly one primary');
$cluster->verify_ledger($primary);
done_testing();
