# SPDX-License-Identifier: PostgreSQL
#
# Two servers without a witness, and ha_failover().  The pair says that it needs a third voter.  Nothing is forced
# while the primary is heard, nor without accept_data_loss.  The survivor that an operator forces writes; the old
# primary, started by hand, never acknowledges beside it and becomes a standby of the new term.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(nodes => [qw(london paris)], settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '10s'\n");
$cluster->start_first;
$cluster->clone('paris', 'london');
$cluster->start('paris');
$cluster->wait_standby_of('paris', 'london');
for my $name (qw(london paris)) {
    $cluster->poll($name, 'SELECT failover_possible, failover_reason FROM ha_cluster', qr/^f\|.*needs three voters.*witness/,
        "$name says that automatic failover needs a third voter");
}

sub refused {
    my ($name, $query, $state, $pattern, $what) = @_;
    my ($status, undef, $error) = $cluster->try_sql($name, $query);
    isnt($status, 0, $what);
    like($error, qr/ERROR:  $state/, "$what: SQLSTATE $state");
    like($error, $pattern, "$what: why");
    like($error, qr/HINT:/, "$what: and what to do");
}

refused('london', 'SELECT ha_failover(accept_data_loss => true)', '55000', qr/not a standby/, 'not on the primary');
refused('paris', "SELECT ha_failover('london', true)", '0A000', qr/this server is "paris"/, 'not for another server');
refused('paris', "SELECT ha_failover('oslo', true)", '42704', qr/no member.*"oslo"/, 'not for a stranger');
refused('paris', 'SELECT ha_failover(accept_data_loss => true)', 'HA007', qr/heard london|london is the primary/, 'not while the primary is heard');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 't', 'london is still the primary');

# The primary is lost.  Its standby does nothing by itself, and ha_failover() names the price.
$cluster->start_writer;
$cluster->wait_writes(200, 'both there');
$cluster->stop_writer;
$cluster->sql('london', 'CREATE TABLE kept AS SELECT 1 AS x');
my $lsn = $cluster->sql('london', 'SELECT pg_current_wal_lsn()');
$cluster->poll('paris', "SELECT pg_last_wal_replay_lsn() >= '$lsn'", 't', 'paris has all of it');
$cluster->kill_everything('london');
my $old_term = $cluster->sql('paris', 'SELECT term FROM ha_cluster');
refused('paris', 'SELECT ha_failover()', 'HA007', qr/heard london|london is the primary|voters not heard: london|started less than one lease ago/, 'not without accept_data_loss');
$cluster->until_true(20, 'the lease of london has passed', sub { ($cluster->try_sql('paris', 'SELECT ha_failover()'))[2] =~ /price/ });
refused('paris', 'SELECT ha_failover()', 'HA007', qr/voters not heard: london.*DETAIL:.*are lost/s, 'the price is named');
is($cluster->sql('paris', 'SELECT pg_is_in_recovery()'), 't', 'paris is still a standby');

# Accepted.
my $log = $cluster->log_size('paris');
like($cluster->sql('paris', 'SELECT ha_failover(accept_data_loss => true)'), qr/^paris is the primary of term \d+$/, 'paris takes over');
is($cluster->sql('paris', 'SELECT ha_is_primary()'), 't', 'it may acknowledge at once');
is($cluster->sql('paris', 'SELECT x FROM kept'), 1, 'what it had is there');
my $term = $cluster->sql('paris', 'SELECT term FROM ha_cluster');
cmp_ok($term, '>=', $old_term + 16, 'in a term far above the old one');
is($cluster->sql('paris', "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"), $term, 'which is its timeline');
$cluster->poll('paris', "SELECT count(*) > 0 FROM ha_events WHERE reason LIKE 'FORCED FAILOVER%are lost%'", 't', 'ha_events tells it');
like($cluster->log_text('paris', $log), qr/WARNING:  pg_ha: FORCED FAILOVER.*DETAIL:.*lost.*HINT:/s, 'the log shouts');
$cluster->poll('paris', 'SELECT voters, members FROM ha_cluster', '1|2', 'it votes alone, london stays a member');
$cluster->start_writer('london', 'paris');
$cluster->wait_writes(200, 'the forced primary writes');

# The old primary believes to be the only voter, so it starts writable; it asks before it acknowledges.
my $before = $cluster->acknowledged;
$cluster->start('london');
$cluster->poll('london', 'SELECT pg_is_in_recovery(), role FROM ha_cluster', 't|standby', 'london becomes a standby by itself');
$cluster->poll('london', 'SELECT term FROM ha_cluster', $term, 'of the new term');
$cluster->wait_writes(200, 'the forced primary goes on');
$cluster->stop_writer;
is($cluster->acknowledged_by('london', $before), 0, 'london has acknowledged nothing beside it');
is_deeply([ $cluster->primaries ], ['paris'], 'one primary');
$cluster->poll('paris', "SELECT voter FROM ha_members WHERE name = 'london'", 'f', 'london is a learner');
$cluster->verify_ledger('paris');
done_testing();
