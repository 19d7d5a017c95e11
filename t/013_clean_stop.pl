# SPDX-License-Identifier: PostgreSQL
#
# A fast stop of the primary hands over: the standbys get all its WAL first, so it comes back as an
# ordinary standby that has not diverged.  Twice, so that the new primary can do it too.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->start_writer;
$cluster->wait_writes(200, 'before the stop');

my $old = 'london';
for my $round (1, 2) {
    $cluster->stop($old, 'fast');
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $cluster->wait_writes(200, "after stop $round");
    $cluster->start($old);
    $cluster->wait_standby_of($old, $new);
    is($cluster->sql($old, 'SELECT pg_is_in_recovery()'), 't', "$old is a standby of $new");
    $cluster->wait_ready($new);
    $old = $new;
}
my ($primary) = $cluster->primaries;
is($primary, $old, 'the second one handed to is the primary');
$cluster->verify_ledger($primary);
done_testing();
