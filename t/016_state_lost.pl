# SPDX-License-Identifier: PostgreSQL
#
# A node whose state file is missing or unreadable has forgotten its votes, so it may not vote: it
# joins as a new learner and becomes a voter again by the primary's decision, never by its own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use File::Path qw(remove_tree);
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->start_writer;
$cluster->wait_writes(100, 'all there');

my %damage = (
    missing => sub { remove_tree($cluster->state_directory('paris')); },
    corrupt => sub {
        for my $file (glob $cluster->state_directory('paris') . '/*') {
            open my $out, '+<', $file or die "$file: $!";
            print $out 'garbage' x 20000;
        }
    },
);
for my $kind (qw(missing corrupt)) {
    my $identity = $cluster->sql('london', "SELECT node_id FROM ha_members WHERE name = 'paris'");
    $cluster->stop('paris', 'fast');
    $damage{$kind}->();
    my $offset = $cluster->log_size('paris');
    $cluster->start('paris');
    $cluster->wait_log('paris', qr/pg_ha: .*state/i, "$kind: the node's log says so", $offset);
    $cluster->poll('london', "SELECT count(*), bool_and(node_id <> '$identity') FROM ha_members WHERE name = 'paris'", '1|t',
        "$kind: it is a new member, the forgetful one is gone");
    $cluster->wait_standby_of('paris', 'london');
    $cluster->wait_ready('london');
    is($cluster->sql('london', 'SELECT ha_is_primary()'), 't', "$kind: london stays the primary");
    $cluster->wait_writes(100, "$kind: afterwards");
}
ok(-e $cluster->state_directory('paris') . '/state.unusable', 'the unreadable file was kept aside');
$cluster->verify_ledger('london');
done_testing();
