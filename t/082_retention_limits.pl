# SPDX-License-Identifier: PostgreSQL
#
# Slots that hold WAL for absent members: none is free, too long away, PostgreSQL's own limit, restarts.
# Whatever happens to them, streaming and commits go on.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(settings => "max_replication_slots = 2\n");
my @others = qw(paris rome);

# ---- one slot is taken, so one is missing -------------------------------------------------------------------

$cluster->start_first;
$cluster->clone($_, 'london') for @others;    # pg_basebackup needs a slot as well
$cluster->sql('london', q{SELECT pg_create_physical_replication_slot('mine')});
$cluster->start($_) for @others;
$cluster->wait_ready('london');
$cluster->poll('london', q{SELECT string_agg(state, ' ' ORDER BY state) FROM ha_slots}, 'following none', 'one of two members has no slot');
for my $view ('ha_members WHERE is_self', 'ha_cluster', 'ha_events') {
    $cluster->poll('london', "SELECT max(reason) FILTER (WHERE reason LIKE '%WAL cannot be kept for%max_replication_slots (2)%') IS NOT NULL FROM $view",
        't', "$view says so");
}
is($cluster->sql('london', q{SELECT count(*) FROM ha_events WHERE reason LIKE 'WAL cannot be kept for%'}), '1', 'told once');
ok($cluster->streams($_, 'london'), "$_ streams nevertheless") for @others;
unlike($cluster->log_text('london'), qr{ERROR: .*replication slot}, 'and the log is not filled with it');
$cluster->sql('london', q{SELECT pg_drop_replication_slot('mine')});
$cluster->poll('london', q{SELECT string_agg(state, ' ' ORDER BY state) FROM ha_slots}, 'following following', 'a slot that becomes free is used');
$cluster->poll('london', q{SELECT count(*) FROM ha_members WHERE reason LIKE '%WAL cannot be kept%'}, '0', 'and the alarm is over');

# ---- dropped by hand, and restarts -----------------------------------------------------------------------------

$cluster->sql('london', q{SELECT pg_drop_replication_slot(slot_name) FROM ha_slots WHERE member = 'rome'});
$cluster->poll('london', q{SELECT count(*) FROM pg_replication_slots WHERE restart_lsn IS NOT NULL}, '2', 'a slot dropped by hand is made again');

my $kept = q{SELECT p.restart_lsn FROM ha_slots s JOIN pg_replication_slots p USING (slot_name) WHERE s.member = 'rome'};
$cluster->stop('rome');
$cluster->poll('london', q{SELECT state FROM ha_slots WHERE member = 'rome'}, 'holding', 'rome is away');
my $at = $cluster->sql('london', $kept);
$cluster->sql('london', 'CREATE TABLE filler (id serial)');
for (1 .. 3) {
    $cluster->sql('london', 'INSERT INTO filler DEFAULT VALUES');
    $cluster->sql('london', 'SELECT pg_switch_wal()');
}
$cluster->sql('london', 'CHECKPOINT');
is($cluster->sql('london', $kept), $at, 'its slot stays where it was');

# A crash restart of a standby: the slots are there again, the counting goes on.
my $on_paris = $cluster->sql('paris', $kept);
kill 'KILL', $cluster->process('paris', 'background writer');
$cluster->poll('paris', $kept, $on_paris, 'also through a crash restart');
$cluster->poll('paris', q{SELECT state FROM ha_slots WHERE member = 'rome'}, 'holding', 'which knows what it is for');
$cluster->wait_standby_of('paris', 'london');

# ---- limits -------------------------------------------------------------------------------------------------------

sub set {
    my (%settings) = @_;
    $cluster->write_node_settings('london', %settings);
    $cluster->sql('london', 'SELECT pg_reload_conf()');
}
set(max_slot_wal_keep_size => "'200MB'");
$cluster->poll('london', q{SELECT limit_bytes FROM ha_slots WHERE member = 'rome'}, 200 * 1024 * 1024, q{PostgreSQL's limit counts if it is lower});
set('pg_ha.retention_time' => "'2s'");
$cluster->poll('london', q{SELECT state, limit_time, reason LIKE 'away for%limit 2 s: clone it again%' FROM ha_slots WHERE member = 'rome'},
    'dropped|00:00:02|t', 'too long away');
is($cluster->sql('london', q{SELECT count(*) FROM pg_replication_slots}), '1', 'its slot is gone');
is($cluster->sql('london', q{SELECT count(*) FROM ha_events WHERE reason LIKE 'keeps no more WAL for rome: away for%'}), '1', 'told once');
set('pg_ha.retention_time' => "'-1'");
$cluster->poll('london', q{SELECT state, limit_time FROM ha_slots WHERE member = 'rome'}, 'holding|', 'a higher limit brings it back while the WAL is there');
$cluster->start('rome');
$cluster->wait_standby_of('rome', 'london');
$cluster->poll('london', q{SELECT state, away FROM ha_slots WHERE member = 'rome'}, 'following|', 'and so does its member');

# ---- switched off ------------------------------------------------------------------------------------------------------

set('pg_ha.retention_size' => '0');
$cluster->poll('london', q{SELECT count(*) FROM pg_replication_slots}, '0', 'switched off there are no slots');
$cluster->poll('london', q{SELECT string_agg(state, ' ') FROM ha_slots WHERE reason LIKE 'switched off%'}, 'none none', 'and the view says why');
done_testing();
