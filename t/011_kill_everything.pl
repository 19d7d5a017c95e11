# SPDX-License-Identifier: PostgreSQL
#
# SIGKILL of every process of the primary at once: nobody is left to resign.  The kernel's answers
# (reset links, refused connections) and the end of the WAL stream must be enough.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->start_writer;
$cluster->wait_writes(300, 'before the kill');
$cluster->kill_everything('london');
$cluster->wait_writes(300, 'after the kill');
my $new = $cluster->wait_primary('paris', 'rome');
my ($follower) = grep { $_ ne $new } qw(paris rome);
$cluster->wait_standby_of($follower, $new);
$cluster->verify_ledger($new);

# And once more: the cluster of the two that are left still has a majority of three.
$cluster->start('london');
is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the old primary starts as a standby');
$cluster->wait_standby_of('london', $new);
is_deeply([ $cluster->primaries ], [$new], 'there is exactly one primary');
done_testing();
