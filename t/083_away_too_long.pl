# SPDX-License-Identifier: PostgreSQL
#
# A standby that was away for so long that nobody has the WAL it needs clones itself anew, unless somebody is
# better off with it as it is; then it says what to do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(limit => 420,
    settings => "wal_keep_size = 0\nmin_wal_size = 32MB\nmax_wal_size = 64MB\npg_ha.retention_size = 48MB\n");
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE TABLE filler (id serial, text text)', 'CREATE EXTENSION amcheck';

# Beyond the limit, with the checkpoint that removes the WAL.
sub leave_behind {
    my ($standby) = @_;
    for (1 .. 5) {
        $cluster->sql('london', q{INSERT INTO filler (text) VALUES ('x')});
        $cluster->sql('london', 'SELECT pg_switch_wal()');
    }
    $cluster->poll('london', "SELECT state FROM ha_slots WHERE member = '$standby'", 'dropped', "no more WAL is kept for $standby");
    for (1 .. 2) {
        $cluster->sql('london', q{INSERT INTO filler (text) VALUES ('x')});
        $cluster->sql('london', 'CHECKPOINT');
    }
    $cluster->poll('london', "SELECT reason LIKE '%is gone%' FROM ha_slots WHERE member = '$standby'", 't', 'it is gone');
}
my $identity_of_self = 'SELECT node_id FROM ha_members WHERE is_self';
my $says = q{SELECT reason FROM ha_members WHERE is_self};

# An archive might have it: that is for a person to know.
my $identity = $cluster->sql('rome', $identity_of_self);
$cluster->stop('rome');
leave_behind('rome');
$cluster->write_node_settings('rome', restore_command => "'false'");
$cluster->start('rome');
$cluster->until_true(90, 'rome says what it needs', sub {
    ($cluster->try_sql('rome', $says))[1] =~ /london no longer has the WAL that this server needs .*: clone it again; .*restore_command is set/;
});
pass('rome says what it needs');
is($cluster->sql('rome', $identity_of_self), $identity, 'and is what it was');

# Without one it helps itself, under the same postmaster.
my $postmaster = $cluster->postmaster('rome');
my $log = $cluster->log_size('rome');
$cluster->write_node_settings('rome');
$cluster->sql('rome', 'SELECT pg_reload_conf()');
$cluster->wait_standby_of('rome', 'london', 120);
like($cluster->log_text('rome', $log), qr{restarting in place to be cloned anew: london no longer has the WAL}, 'it says why');
isnt($cluster->sql('rome', $identity_of_self), $identity, 'it is another member now');
is($cluster->postmaster('rome'), $postmaster, 'of the same process');
$cluster->poll('rome', q{SELECT count(*) FROM ha_events WHERE reason LIKE 'cloned anew%no longer has the WAL%'}, '1', 'the events tell');
$cluster->compare_data('london', [qw(london rome)], 'filler');
$cluster->wait_ready('london');
$cluster->poll('london', q{SELECT string_agg(state, ' ') FROM ha_slots}, 'following following', 'and WAL is kept for it again');
$cluster->poll('london', q{SELECT count(*) FROM pg_replication_slots}, '2', 'but not for what it was');
done_testing();
