# SPDX-License-Identifier: PostgreSQL
#
# A cluster of three that was cut down to two voters, and then loses one of them: nobody is elected, and the survivor says
# what to do.  Done as it says, the survivor writes again with everything that was acknowledged; once where the primary
# is the survivor, once where it is a standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(limit => 600, settings => "pg_ha.lease_duration = '1s'\n");
$cluster->start_all;

# Rome is gone for good; what is left needs both.
sub leave_two {
    my ($primary, $removed) = @_;
    $cluster->kill_everything($removed);
    $cluster->poll($primary, "SELECT liveness FROM ha_members WHERE name = '$removed'", 'unreachable', "$removed is away");
    $cluster->poll($primary, "SELECT ha_remove_member('$removed')", "$removed is no member any more", "$removed is removed");
    $cluster->poll($primary, 'SELECT voters, failover_reason FROM ha_cluster', qr{^2\|.*needs three voters, there are 2: add a server or a witness},
        'the two say that a third voter is missing');
}

sub force {
    my ($name) = @_;
    my $sql = 'SELECT ha_failover(accept_data_loss => true)';
    $cluster->until_true(60, "$name is the primary", sub { ($cluster->try_sql($name, $sql, 70))[1] =~ /$name is the primary/ });
    pass("$name leads, as it was told to");
    $cluster->poll($name, 'SELECT ha_is_primary()', 't', 'and acknowledges');
}

# ---- the standby is lost ------------------------------------------------------------------------------------------
$cluster->start_writer('london');
$cluster->wait_writes(200, 'three');
leave_two('london', 'rome');
$cluster->wait_writes(200, 'two');
$cluster->kill_everything('paris');
my $way_on = 'if paris is gone for good, restart this server, wait for one lease, then SELECT ha_failover(accept_data_loss => true) here';
$cluster->poll('london', 'SELECT reason FROM ha_cluster', "fenced: no majority of voters answers; $way_on", 'the primary is fenced and says how to go on');
$cluster->poll('london', 'SELECT reason FROM ha_members WHERE is_self', qr{\Q$way_on\E}, 'in its own row, too');
is($cluster->sql('london', 'SELECT ha_is_primary()'), 'f', 'meanwhile it acknowledges nothing');
$cluster->stop_writer;
$cluster->stop('london', 'immediate');
$cluster->start('london');
$cluster->poll('london', 'SELECT reason FROM ha_cluster',
    'waits: there is no primary, and no majority of the voters: missing paris; if paris is gone for good, SELECT ha_failover(accept_data_loss => true) here',
    'restarted, it says the rest');
$cluster->wait_log('london', qr{if paris is gone for good}, 'its log, too');
force('london');
$cluster->verify_ledger('london');

# ---- the primary is lost, with a second server that is a learner ----------------------------------------------------
$cluster->start('paris');
$cluster->wait_standby_of('paris', 'london');
$cluster->poll('paris', 'SELECT reason FROM ha_members WHERE is_self', 'follows london', 'paris follows');
$cluster->kill_everything('london');
$cluster->poll('paris', 'SELECT reason FROM ha_cluster', 'there is no primary: london is not heard; if london is gone for good, SELECT ha_failover(accept_data_loss => true) here',
    'the standby says how to go on');
force('paris');
done_testing();
