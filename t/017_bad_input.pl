# SPDX-License-Identifier: PostgreSQL
#
# Mistakes of an operator: each is refused with a clear line on both sides, and the cluster that
# was healthy before stays healthy.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use File::Copy qw(copy);
use File::Path qw(remove_tree);
use Test::More;

my $cluster = PgHaCluster->new(nodes => [qw(london paris rome stranger)]);
$cluster->start_first;
for my $name (qw(paris rome)) {
    $cluster->clone($name, 'london');
    $cluster->start($name);
}
$cluster->poll('london', 'SELECT failover_possible, voters FROM ha_cluster', 't|3', 'three voters');
$cluster->start_writer(qw(london paris rome));
$cluster->wait_writes(100, 'before');

sub throw_away {
    my ($name) = @_;
    $cluster->stop($name, 'fast');
    remove_tree($cluster->data($name), $cluster->state_directory($name));
}
sub still_healthy {
    my ($what) = @_;
    $cluster->wait_writes(50, $what);
    $cluster->poll('london', 'SELECT ha_is_primary() AND failover_possible AND voters = 3 AND term = 1 FROM ha_cluster', 't',
        "$what: the cluster is as it was");
}

# A fourth server calls itself rome.
my $offset = $cluster->log_size('rome');
$cluster->clone('stranger', 'london');
$cluster->write_node_settings('stranger', 'pg_ha.node_name' => "'rome'");
$cluster->start('stranger');
$cluster->wait_log('rome', qr/pg_ha: .*both servers have pg_ha.node_name "rome"/, 'same name: the first one logs it', $offset);
$cluster->wait_log('stranger', qr/pg_ha: .*another living member has this pg_ha.node_name/, 'same name: the second one logs it');
$cluster->poll('stranger', 'SELECT reason FROM ha_cluster', qr/name/, 'same name: ha_cluster says so');
is($cluster->sql('stranger', 'SELECT pg_is_in_recovery()'), 't', 'same name: it stays read-only');
still_healthy('same name');
throw_away('stranger');

# A server of another cluster, with its own secret, that was given our peers.
$offset = $cluster->log_size('london');
$cluster->init('stranger');
$cluster->write_node_settings('stranger', 'pg_ha.failover_priority' => 0);
$cluster->start('stranger');
$cluster->sql('stranger', 'CREATE EXTENSION pg_ha');
my ($status, undef, $err) = $cluster->try_sql('stranger', 'SELECT ha_bootstrap()');
ok($status != 0 && $err =~ /pg_ha.failover_priority is 0.*HINT:/s, 'no cluster begins with a server that must not lead') or diag($err);
$cluster->write_node_settings('stranger', 'pg_ha.failover_priority' => undef);
kill 'HUP', $cluster->postmaster('stranger');
$cluster->poll('stranger', 'SHOW pg_ha.failover_priority', 100, 'it is told otherwise');
$cluster->sql('stranger', 'SELECT ha_bootstrap()');
$cluster->wait_log('london', qr/pg_ha: .*(secret|cluster)/, 'another cluster: the primary logs it', $offset);
$cluster->wait_log('stranger', qr/pg_ha: .*(secret|cluster)/, 'another cluster: the stranger logs it');
is($cluster->sql('stranger', 'SELECT ha_is_primary()'), 't', 'another cluster: it stays the primary of its own');
still_healthy('another cluster');
throw_away('stranger');

# Our secret, but another system identifier: a fresh initdb with the secret copied in.
$offset = $cluster->log_size('london');
$cluster->init('stranger');
copy($cluster->data('london') . '/pg_ha.secret', $cluster->data('stranger') . '/pg_ha.secret') or die "copy: $!";
chmod 0600, $cluster->data('stranger') . '/pg_ha.secret';
$cluster->launch('stranger');
$cluster->wait_log('london', qr/pg_ha: .*system identifier/, 'other system identifier: the primary logs it', $offset);
$cluster->wait_log('stranger', qr/pg_ha: .*system identifier/, 'other system identifier: the stranger logs it');
still_healthy('other system identifier');
throw_away('stranger');

# No node_name: passive, and says which setting is missing.
$offset = $cluster->log_size('stranger');
$cluster->clone('stranger', 'london');
$cluster->write_node_settings('stranger', 'pg_ha.node_name' => undef);
$cluster->start('stranger');
$cluster->wait_log('stranger', qr/pg_ha.node_name is not set/, 'no node_name: the log names the setting', $offset);
like($cluster->sql('stranger', 'SELECT reason FROM ha_cluster'), qr/pg_ha.node_name is not set/, 'no node_name: so does ha_cluster');
is($cluster->sql('stranger', 'SELECT pg_is_in_recovery()'), 't', 'no node_name: a clone still does not become a second primary');
still_healthy('no node_name');
throw_away('stranger');

# A state directory that cannot be used.
$offset = $cluster->log_size('stranger');
$cluster->clone('stranger', 'london');
PgHaCluster::write_file($cluster->state_directory('stranger'), "a file, not a directory\n");
$cluster->launch('stranger');
$cluster->wait_log('stranger', qr/pg_ha.*stranger\.pg_ha/s, 'unusable state directory: the log names it', $offset);
still_healthy('unusable state directory');
is($cluster->find_primary('stranger'), undef, 'unusable state directory: no second primary');

# A secret that others may read.
$cluster->stop('paris', 'fast');
chmod 0644, $cluster->data('paris') . '/pg_ha.secret';
$offset = $cluster->log_size('paris');
$cluster->launch('paris');
$cluster->wait_log('paris', qr/pg_ha.*pg_ha\.secret/s, 'readable secret: the log names the file', $offset);
$cluster->wait_writes(50, 'readable secret: the others go on');
is($cluster->find_primary('paris'), undef, 'readable secret: not a primary');
$cluster->verify_ledger('london');
done_testing();
