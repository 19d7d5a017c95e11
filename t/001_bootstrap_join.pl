# SPDX-License-Identifier: PostgreSQL
#
# From one stock server to three voters: nothing is fenced before ha_bootstrap(), a plain
# pg_basebackup with its own node_name joins by itself, and the number of voters stays odd.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use IO::Socket::INET;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->init('london');
$cluster->start('london');
$cluster->sql('london', 'CREATE EXTENSION pg_ha');

# Before bootstrap: a stock server that says so.
$cluster->sql('london', 'CREATE TABLE stock (id int)');
pass('before bootstrap commits are not fenced');
is($cluster->sql('london', 'SELECT role FROM ha_cluster'), 'passive', 'ha_cluster: the node is passive');
like($cluster->sql('london', 'SELECT reason FROM ha_cluster'), qr/no cluster/, 'it says why');
like($cluster->sql('london', 'SELECT hint FROM ha_cluster'), qr/ha_bootstrap/, 'and the hint names what to do');
ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $cluster->node('london')->{peer_port}, Timeout => 2),
    'the peer port is closed');
ok(!-e $cluster->data('london') . '/pg_ha.secret', 'there is no secret');

# Bootstrap.
$cluster->sql('london', 'SELECT ha_bootstrap()');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 't', 'primary as soon as ha_bootstrap() returns');
is((stat $cluster->data('london') . '/pg_ha.secret')[2] & 0777, 0600, 'the secret has mode 0600');
$cluster->sql('london', 'CREATE TABLE ledger (id bigint PRIMARY KEY, port int)');
my ($status, undef, $error) = $cluster->try_sql('london', 'SELECT ha_bootstrap()');
isnt($status, 0, 'a second ha_bootstrap() is refused');
like($error, qr/already/, 'and says why');

# The second data node stays a learner: two voters would be worse than one.
$cluster->clone('paris', 'london');
$cluster->start('paris');
$cluster->wait_standby_of('paris', 'london');
$cluster->poll('london', 'SELECT count(*), count(*) FILTER (WHERE voter) FROM ha_members', '2|1', 'two members, one voter');
is($cluster->sql('london', 'SELECT failover_possible FROM ha_cluster'), 'f', 'no failover with one voter');
isnt($cluster->sql('london', 'SELECT failover_reason FROM ha_cluster'), '', 'and ha_cluster says why');

# The third makes three.
$cluster->clone('rome', 'london');
$cluster->start('rome');
$cluster->wait_ready('london');
$cluster->poll('london', 'SHOW synchronous_standby_names', qr/^ANY 1 \(/, 'commits wait for one standby');

# Every node gives the same answer.
for my $name ($cluster->names) {
    $cluster->poll($name, 'SELECT term, voters, primary_name FROM ha_cluster',
        $cluster->sql('london', 'SELECT term, voters, primary_name FROM ha_cluster'), "$name knows term, voters and primary");
    $cluster->poll($name, q{SELECT string_agg(name, ',' ORDER BY name) FROM ha_members WHERE voter}, 'london,paris,rome',
        "$name lists three voters");
    is($cluster->sql($name, 'SELECT ha_is_primary()'), $name eq 'london' ? 't' : 'f', "$name knows whether it is the primary");
    cmp_ok($cluster->sql($name, 'SELECT count(*) FROM ha_events'), '>', 0, "$name has events");
}
$cluster->sql('london', 'INSERT INTO ledger VALUES (1, 0)');
for my $name (qw(paris rome)) {
    $cluster->poll($name, 'SELECT count(*) FROM ledger', '1', "the row arrives on $name");
}
done_testing();
