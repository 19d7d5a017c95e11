# SPDX-License-Identifier: PostgreSQL
#
# While a member is away every data node keeps the WAL that it lacks, up to a limit, and the next primary has
# it as well.  Beyond the limit its slot goes, the WAL goes, and everybody is told what to do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

# Three voters, so that a failover is possible while the fourth, a learner, is away.  PostgreSQL itself keeps nothing.
my $cluster = PgHaCluster->new(
    nodes => [qw(london paris rome oslo)], limit => 420,
    settings => "wal_keep_size = 0\nmin_wal_size = 32MB\nmax_wal_size = 64MB\npg_ha.retention_size = 1GB\n");
my @voters = qw(london paris rome);
$cluster->start_first;
for my $name (qw(paris rome oslo)) {
    $cluster->clone($name, 'london');
    $cluster->start($name);
}
$cluster->poll('london', 'SELECT failover_possible, voters FROM ha_cluster', 't|3', 'three nodes vote');
$cluster->wait_standby_of('oslo', 'london');
$cluster->sql('london', 'CREATE TABLE filler (id serial, text text)');

# Each time about a segment, 16 MB.
sub write_wal {
    my ($primary, $segments) = @_;
    for (1 .. $segments) {
        $cluster->sql($primary, q{INSERT INTO filler (text) VALUES ('x')});
        $cluster->sql($primary, 'SELECT pg_switch_wal()');
    }
}

# What removes WAL.  A standby does it only after it has replayed a checkpoint of its primary.
sub checkpoint {
    my ($primary, @standbys) = @_;
    $cluster->sql($primary, 'CHECKPOINT');
    my $end = $cluster->sql($primary, 'SELECT pg_current_wal_flush_lsn()');
    for my $standby (@standbys) {
        $cluster->poll($standby, "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', "$standby has replayed the checkpoint");
        $cluster->sql($standby, 'CHECKPOINT');
    }
}

sub segment_of_lsn {
    my ($upper, $lower) = split m{/}, $_[0];
    return hex($upper) * 256 + (hex($lower) >> 24);
}
sub oldest_segment {
    my ($name) = @_;
    my ($file) = split /\n/, $cluster->sql($name, q{SELECT substr(name, 9) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' ORDER BY 1 LIMIT 1});
    return hex(substr $file, 0, 8) * 256 + hex(substr $file, 8);
}
sub position { return $cluster->sql($_[0], 'SELECT pg_last_wal_receive_lsn()'); }
sub slot_state {
    my ($name, $member, $state, $what) = @_;
    $cluster->poll($name, "SELECT state FROM ha_slots WHERE member = '$member'", $state, "$name: $member is $state ($what)");
}

# ---- every node has a slot for every other ----------------------------------------------------------------------

for my $name ($cluster->names) {
    $cluster->poll($name, q{SELECT count(*) FROM ha_slots s JOIN pg_replication_slots p USING (slot_name)
        WHERE s.state = 'following' AND p.restart_lsn IS NOT NULL AND NOT p.active AND s.away_since IS NULL}, '3', "$name follows the three others");
}
write_wal('london', 4);
checkpoint('london', qw(paris rome oslo));
for my $name ($cluster->names) {
    $cluster->poll($name, q{SELECT bool_and(pg_wal_lsn_diff(coalesce(pg_last_wal_receive_lsn(), CASE WHEN pg_is_in_recovery() THEN NULL
        ELSE pg_current_wal_lsn() END), restart_lsn) <= 16 * 1024 * 1024) FROM pg_replication_slots}, 't', "the slots of $name move on");
}

# ---- away, with a failover in between -------------------------------------------------------------------------------

my $identity = $cluster->sql('oslo', 'SELECT node_id FROM ha_members WHERE is_self');
my $left_at = segment_of_lsn(position('oslo'));
$cluster->kill_everything('oslo');
write_wal('london', 6);
checkpoint('london', qw(paris rome));
write_wal('london', 2);
checkpoint('london', qw(paris rome));
for my $name (@voters) {
    slot_state($name, 'oslo', 'holding', 'it was killed');
    cmp_ok(oldest_segment($name), '<=', $left_at, "$name still has the WAL that oslo lacks");
    $cluster->poll($name, q{SELECT bytes > 7 * 16 * 1024 * 1024, away > '0 s', limit_bytes <= 1024 * 1024 * 1024, limit_time FROM ha_slots
        WHERE member = 'oslo'}, 't|t|t|24:00:00', "$name says how much, how long, and up to when");
}
$cluster->kill_everything('london');
my $primary = $cluster->wait_primary('paris', 'rome');
my ($standby) = grep { $_ ne $primary } qw(paris rome);
$cluster->wait_standby_of($standby, $primary);
write_wal($primary, 3);
checkpoint($primary, $standby);
write_wal($primary, 1);
checkpoint($primary, $standby);
cmp_ok(oldest_segment($_), '<=', $left_at, "$_ still has it after the failover") for $primary, $standby;
my $log = $cluster->log_size('oslo');
$cluster->start('oslo');
$cluster->wait_standby_of('oslo', $primary);
my $end = $cluster->sql($primary, 'SELECT pg_current_wal_flush_lsn()');
$cluster->poll('oslo', "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', 'oslo has caught up');
unlike($cluster->log_text('oslo', $log), qr{has already been removed}, 'without having missed any WAL');
is($cluster->sql('oslo', 'SELECT node_id FROM ha_members WHERE is_self'), $identity, 'and without having been cloned');
slot_state($primary, 'oslo', 'following', 'it is back');
$cluster->start('london');
$cluster->wait_standby_of('london', $primary);
slot_state($primary, 'london', 'following', 'it is back');

# ---- beyond the limit -----------------------------------------------------------------------------------------------

my @others = grep { $_ ne $primary } @voters;
# Once the slots of those that follow have moved, too.
sub wal_goes {
    my ($what, @names) = @_;
    $cluster->until_true(60, $what, sub {
        write_wal($primary, 1);
        checkpoint($primary, @others);
        return !grep { oldest_segment($_) <= $left_at } @names;
    });
    pass($what);
}
for my $name (@voters) {
    $cluster->write_node_settings($name, 'pg_ha.retention_size' => "'96MB'");
    $cluster->sql($name, 'SELECT pg_reload_conf()');
    $cluster->poll($name, 'SHOW pg_ha.retention_size', '96MB', "$name has the new limit");
}
$left_at = segment_of_lsn(position('oslo'));
$cluster->stop('oslo');
write_wal($primary, 8);
for my $name (@voters) {
    slot_state($name, 'oslo', 'dropped', 'it is more than 96 MB behind');
    $cluster->poll($name, q{SELECT count(*) FROM ha_slots JOIN pg_replication_slots USING (slot_name) WHERE member = 'oslo'}, '0', "$name has no slot for it");
    $cluster->poll($name, q{SELECT count(*) FROM ha_slots WHERE state = 'following'}, '2', '... but for the others');
    is($cluster->sql($name, q{SELECT count(*) FROM ha_events WHERE reason LIKE 'keeps no more WAL for oslo:%limit%clone it again%'}), '1', 'told once, with what to do');
}
wal_goes('the WAL is gone', @voters);
$cluster->poll($primary, q{SELECT reason LIKE '%is gone%' FROM ha_slots WHERE member = 'oslo'}, 't', 'and the view says so');
$cluster->start('oslo');
$cluster->wait_log($primary, qr{requested WAL segment \w+ has already been removed}, 'oslo cannot go on');
$cluster->stop('oslo');

# ---- cloned again, under a new identity -------------------------------------------------------------------------------

File::Path::remove_tree($cluster->data('oslo'), $cluster->state_directory('oslo'));
$cluster->clone('oslo', $primary);
$cluster->start('oslo');
$cluster->wait_standby_of('oslo', $primary);
slot_state($primary, 'oslo', 'following', 'it was cloned');
for my $name (@voters) {
    $cluster->poll($name, q{SELECT count(*) FROM pg_replication_slots}, '3', "the slot of the old identity is gone on $name");
}

# ---- without slots: what they are for -----------------------------------------------------------------------------------

for my $name (@voters) {
    $cluster->write_node_settings($name, 'pg_ha.retention_size' => '0');
    $cluster->sql($name, 'SELECT pg_reload_conf()');
}
$cluster->poll($_, q{SELECT count(*) FROM pg_replication_slots}, '0', "$_ keeps no slots") for @voters;
$left_at = segment_of_lsn(position('oslo'));
$cluster->kill_everything('oslo');
write_wal($primary, 3);
wal_goes('without a slot the WAL is gone', $primary);
unlike($cluster->log_text($_), qr{replication slot}, "no chatter in the log of $_") for @voters;
done_testing();
