# SPDX-License-Identifier: PostgreSQL
#
# Negative control of sessions that are held after a failover: where they are let in at once, one reads a row that only
# this server has, and that is gone after the next failover.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use Time::HiRes qw(time sleep);

negative_control(
    without => 'settled_at_once',
    finds => 'vanished',
    cluster => { nodes => [qw(london paris rome oslo bern)] },
    settings => "pg_ha.fence_wait = '200ms'\npg_ha.min_sync_standbys = 2\n",    # so that nobody is left out of the sync set
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my @rest = qw(rome oslo bern);
        $cluster->hold_stream('london', $_) for @rest;
        $cluster->sql('london', 'SET synchronous_commit = local; INSERT INTO ledger VALUES (-1, 0)');    # no commit that a client was told of
        $cluster->poll('paris', 'SELECT count(*) FROM ledger WHERE id = -1', 1, 'paris alone has the row');
        # They vote, but get no WAL from their new primary.
        my @startup = map { $cluster->process($_, 'startup') } @rest;
        kill('STOP', @startup) == @rest or die "cannot stop the startup processes: $!";
        $cluster->kill_everything('london');
        $cluster->poll('paris', 'SELECT ha_is_primary()', 't', 'paris is the primary');
        my ($end, $seen) = (time + 2, 0);
        until ($seen || time > $end) {
            $seen = ($cluster->try_sql('paris', 'SELECT count(*) FROM ledger WHERE id = -1'))[1] eq '1' ? 1 : 0;
        }
        $cluster->kill_everything('paris');
        kill 'CONT', @startup;
        my $new = $cluster->wait_primary(@rest);
        $cluster->until_true(60, "$new answers", sub { ($cluster->try_sql($new, 'SELECT count(*) FROM ledger'))[0] == 0 });
        my $there = $cluster->sql($new, 'SELECT count(*) FROM ledger WHERE id = -1');
        return ($new, vanished => $seen && !$there ? 1 : 0);
    },
);
