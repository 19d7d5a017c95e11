# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the lineage check: PostgreSQL lets a standby stream that is ahead on a dead timeline, and
# takes its position as an acknowledgement of commits that nobody else has.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'diverged_streams',
    finds => 'lost',
    settings => "pg_ha.lease_duration = '1s'\n",
    scenario => sub {
        my ($cluster, $ledger) = @_;
        $cluster->sql('london', 'CREATE TABLE ballast (t text)');
        $cluster->keep_standbys('london');
        my @walsenders = split /\n/, $cluster->sql('london', 'SELECT pid FROM pg_stat_replication');
        kill 'STOP', @walsenders;
        $cluster->try_sql('london', q{INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 5000)}, 1);
        $cluster->kill_everything('london');
        my $new = $cluster->wait_primary(qw(paris rome));
        my ($other) = grep { $_ ne $new } qw(paris rome);
        $cluster->wait_standby_of($other, $new);
        $cluster->start('london');
        $cluster->poll($new, q{SELECT liveness FROM ha_members WHERE name = 'london'}, 'alive', 'london is there');
        # The other standby hears the primary, but gets no WAL; a frozen one would find it in its socket later.
        kill 'STOP', $cluster->sql($new, "SELECT pid FROM pg_stat_replication WHERE application_name = '$other'");
        sleep 1.5;
        $cluster->kill_everything($new);
        # With the check london has been rewound meanwhile and may be the one that is elected.
        my $end = time + 6;
        my $last;
        sleep 0.1 while time < $end && !defined($last = $cluster->find_primary('london', $other));
        return $last if defined $last;
        $cluster->start($new);
        return $cluster->wait_primary('london', $new, $other);
    },
);
