# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the bound of what asynchronous commits may lose: without it standbys that lack 5 MB elect one of
# them, though max_lag_on_failover allows 1 MB.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'lag_ignored',
    finds => 'beyond_bound',
    settings => "pg_ha.synchronous = off\npg_ha.max_lag_on_failover = '1MB'\npg_ha.lease_duration = '1s'\n",
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my @standbys = qw(paris rome);
        $cluster->sql('london', 'CREATE TABLE ballast (t text)');
        $cluster->poll($_, q{SELECT to_regclass('ballast') IS NOT NULL}, 't', "$_ has the table") for @standbys;
        $cluster->hold_stream('london', $_) for @standbys;
        $cluster->sql('london', q{INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 5000)});
        my $end = $cluster->sql('london', 'SELECT pg_current_wal_flush_lsn()');
        $cluster->poll($_, "SELECT lsn >= '$end' FROM ha_members WHERE name = 'london'", 't', "$_ has heard how far london is") for @standbys;
        $cluster->kill_everything('london');
        my ($limit, $primary) = (time + 6);
        sleep 0.1 until $primary = $cluster->find_primary(@standbys) or time > $limit;
        $cluster->start('london') unless $primary;
        $primary //= $cluster->wait_primary;
        return ($primary, beyond_bound => $cluster->sql($primary, 'SELECT count(*) = 0 FROM ballast') eq 't' ? 1 : 0);
    },
);
