# SPDX-License-Identifier: PostgreSQL
#
# Asynchronous commits: what a failover may lose is bounded.  Standbys that lack more than max_lag_on_failover of
# what they have heard of the primary elect nobody; those that lack less do, and what was lost is kept with its
# range on the old primary.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(settings => "pg_ha.synchronous = off\npg_ha.max_lag_on_failover = '1MB'\npg_ha.lease_duration = '1s'\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE ballast (t text)');

# So many rows of 1 kB that no standby receives; a commit waits for nobody.
sub write_alone {
    my ($primary, $rows) = @_;
    my @standbys = grep { $_ ne $primary } $cluster->names;
    $cluster->poll($primary, 'SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_insert_lsn()', 2, 'both standbys have all WAL');
    my @walsenders = split /\n/, $cluster->sql($primary, 'SELECT pid FROM pg_stat_replication');
    kill('STOP', @walsenders) == 2 or die "cannot stop the walsenders: $!";
    $cluster->sql($primary, "INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, $rows)");
    my $end = $cluster->sql($primary, 'SELECT pg_current_wal_flush_lsn()');
    for my $standby (@standbys) {
        $cluster->poll($standby, "SELECT lsn >= '$end' FROM ha_members WHERE name = '$primary'", 't', "$standby has heard how far $primary is");
    }
    $cluster->kill_everything($primary);
    return @standbys;
}

my @standbys = write_alone('london', 5000);
my $end = time + 6;
my $elected = 0;
while (time < $end) {
    $elected += grep { $cluster->sql($_, 'SELECT NOT pg_is_in_recovery()') eq 't' } @standbys;
    sleep 0.1;
}
is($elected, 0, 'two standbys that lack 5 MB elect nobody');
$cluster->start('london');
# London, or one that has got from it what it lacked.
my $old = $cluster->wait_primary;
$cluster->wait_ready($old);
$cluster->poll($_, 'SELECT count(*) FROM ballast', 5000, "$_ has everything") for $cluster->names;

my $new = $cluster->wait_primary(write_alone($old, 200));
is($cluster->sql($new, 'SELECT count(*) FROM ballast'), 5000, 'one that lacks 200 kB is elected, and these are lost');
$cluster->start($old);
ok($cluster->bring_back($old, $new), 'the old primary is rewound');
$cluster->poll($old, q{SELECT reason FROM ha_events WHERE reason LIKE 'rewound to%'}, qr{own WAL up to \S+ \(\d+ bytes\) is kept},
    'and says which WAL was lost');
is($cluster->sql($old, 'SELECT count(*) FROM ballast'), 5000, 'it has what the primary has');
done_testing();
