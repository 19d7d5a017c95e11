# SPDX-License-Identifier: PostgreSQL
#
# failover_priority = 0 on the only server that has the last acknowledged commits: it becomes the primary, because
# nobody else can without losing them, and hands over as soon as another server has them too.  So does a primary that is
# given this priority while it leads.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->write_node_settings('rome', 'pg_ha.failover_priority' => 0);
kill 'HUP', $cluster->postmaster('rome');
$cluster->poll('london', q{SELECT priority FROM ha_members WHERE name = 'rome'}, 0, 'rome shall not be elected');
$cluster->wait_ready('london');
my ($status, undef, $err) = $cluster->try_sql('london', q{SELECT ha_switchover('rome')});
ok($status != 0 && $err =~ /rome has failover_priority 0/, 'no operator hands over to it') or diag($err);

# -- where others have all there is, it is not elected, and does not stay
$cluster->start_writer;
$cluster->wait_writes(100, 'with all three');
$cluster->hold_stream('london', 'paris');
$cluster->wait_writes(100, 'that paris does not get');
$cluster->kill_everything('london');
is($cluster->wait_primary('paris', 'rome'), 'rome', 'who has the commits leads, though it should not');
$cluster->wait_writes(100, 'on rome');
like($cluster->log_text('rome'), qr/though its failover_priority is 0: hands over when another can lead/, 'and says why');

$cluster->start('london');
my $new = $cluster->wait_primary('london', 'paris');
$cluster->wait_writes(100, "on $new");
like($cluster->log_text('rome'), qr/hands over to $new because its failover_priority is 0/, 'it has handed over');
$cluster->stop_writer;
$cluster->wait_standby_of($_, $new) for grep { $_ ne $new } $cluster->names;
$cluster->wait_ready($new);
$cluster->verify_ledger($new);

# -- a primary whose priority becomes 0 hands over too
$cluster->write_node_settings($new, 'pg_ha.failover_priority' => 0);
kill 'HUP', $cluster->postmaster($new);
my ($last) = grep { $_ ne $new && $_ ne 'rome' } $cluster->names;
is($cluster->wait_primary($last), $last, 'the only one that may lead leads');
$cluster->wait_standby_of($_, $last) for grep { $_ ne $last } $cluster->names;
$cluster->poll($last, 'SELECT failover_possible, failover_reason FROM ha_cluster', qr/^f\|no voter that may become primary/, 'which is said');
$cluster->verify_ledger($new);
done_testing();
