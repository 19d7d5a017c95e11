# SPDX-License-Identifier: PostgreSQL
#
# Every server is restarted in turn, under load and without waiting until the cluster is whole: the standbys,
# then the primary, by fast stops; then once more by immediate ones.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'before');
for my $mode (qw(fast immediate)) {
    my $primary = $cluster->wait_primary;
    for my $name ((grep { $_ ne $primary } $cluster->names), $primary) {
        $cluster->stop($name, $mode);
        $cluster->start($name);
        $cluster->until_true(120, "$name streams, or leads again", sub {
            my $now = $cluster->find_primary;
            return defined $now && ($name eq $now || $cluster->streams($name, $now));
        });
        $ledger->wait(200, "after the $mode restart of $name");
    }
}
$ledger->verify($cluster->wait_primary);
done_testing();
