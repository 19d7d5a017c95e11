# SPDX-License-Identifier: PostgreSQL
#
# kill -9 of the primary's postmaster under a writing client: a standby takes over, nothing
# acknowledged is missing, the timeline is the term, and the old primary never comes back as one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $old_term = $cluster->sql('london', 'SELECT term FROM ha_cluster');

$cluster->start_writer;
$cluster->wait_writes(300, 'before the kill');
my $before = $cluster->acknowledged;
$cluster->kill_postmaster('london');
$cluster->wait_writes(300, 'after the kill');
my $new = $cluster->wait_primary('paris', 'rome');
my ($follower) = grep { $_ ne $new } qw(paris rome);

cmp_ok($cluster->sql($new, 'SELECT term FROM ha_cluster'), '>', $old_term, 'the term grew');
is($cluster->sql($new, "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"),
    $cluster->sql($new, 'SELECT term FROM ha_cluster'), 'the timeline is the term');
$cluster->poll($new, "SELECT count(*) > 0 FROM ha_events WHERE to_role = 'primary' AND reason <> ''", 't',
    'ha_events tells the promotion with a reason');
like($cluster->log_text($new), qr/sessions are let in, after \d+ ms/, 'sessions were held until a standby had what they see');
$cluster->wait_standby_of($follower, $new);
$cluster->verify_ledger($new);

# The old primary is started by hand, as an operator or systemd would: standby, whatever it holds.
$cluster->start('london');
is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'the old primary starts as a standby');
$cluster->wait_standby_of('london', $new);
is_deeply([ $cluster->primaries ], [$new], 'there is exactly one primary');
done_testing();
