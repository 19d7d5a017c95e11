# SPDX-License-Identifier: PostgreSQL
#
# A state directory restored from an old copy may have forgotten a vote.  The others have seen a later
# start of that node, so the primary voids the identity; the node takes a new one, greets everybody
# anew, and comes back as learner, then voter.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use File::Copy qw(copy);
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $identity = "SELECT count(*) FROM ha_members WHERE name = 'rome' AND voter AND liveness = 'alive'";
my $state = $cluster->state_directory('rome') . '/state';
copy($state, "$state.old") or die "cannot copy $state: $!";
for (1 .. 2) {
    $cluster->stop('rome', 'fast');
    $cluster->start('rome');
    $cluster->wait_standby_of('rome', 'london');
}
$cluster->poll('london', $identity, '1', 'rome votes');
$cluster->stop('rome', 'fast');
copy("$state.old", $state) or die "cannot restore $state: $!";
$cluster->start('rome');
$cluster->wait_log('rome', qr/does not accept this node: its state directory is an old copy/, 'the old identity is void');
$cluster->wait_standby_of('rome', 'london');
$cluster->wait_ready('london');
$cluster->poll('london', $identity, '1', 'rome votes again');
is($cluster->sql('london', 'SELECT count(*) FROM ha_members'), '3', 'it is still one of three members');
done_testing();
