# SPDX-License-Identifier: PostgreSQL
#
# A server is rewound to a primary that dies right afterwards, with WAL that was only in its memory: pg_rewind asks for
# all of that before the server may open.  So the helper has it flushed and replicated first.  Where it may not, the
# server says what it lacks, is not ended by its recovery, keeps its vote, and clones itself when it can be spared.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(settings => "autovacuum = off\npg_ha.lease_duration = '1s'\npg_ha.replication_conninfo = 'user=replicator'\n");
my ($grant) = do { local (@ARGV, $/) = "$FindBin::Bin/../README.md"; <> =~ m{-c "(GRANT EXECUTE ON FUNCTION .*? TO replicator)"}s };
$cluster->start_first;
$cluster->sql('london', $_) for 'CREATE ROLE replicator REPLICATION LOGIN', $grant, 'CREATE TABLE filler (id int PRIMARY KEY, text text)';
for my $name (qw(paris rome)) {
    $cluster->clone($name, 'london');
    $cluster->start($name);
}
$cluster->wait_ready('london');

my $hold = "$cluster->{dir}/hold";
my $unflushed = 'SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()';

# The primary is lost, and rewound to the next, which has rows in its memory only and is killed before the old one has
# replayed anything.  Returns the old primary, the next one, and who is left.
sub lose_two {
    my ($old) = @_;
    $cluster->diverge($old, 100);
    $cluster->kill_everything($old);
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    my ($third) = grep { $_ ne $old && $_ ne $new } $cluster->names;
    $cluster->poll($new, 'SELECT timeline_id = (SELECT max(term) FROM ha_cluster) FROM pg_control_checkpoint()', 't',
        'the checkpoint of the promotion is over');
    $cluster->wait_standby_of($third, $new);
    kill 'STOP', map { $cluster->process($new, $_) } 'walwriter', 'background writer';
    $cluster->sql($new, "SET synchronous_commit = off; INSERT INTO filler SELECT -n, repeat('x', 100) FROM generate_series(1, 200) n");
    is($cluster->sql($new, $unflushed), 't', "$new has WAL that is on no disk");

    PgHaCluster::write_file($hold, '');
    $cluster->write_node_settings($old, restore_command =>
        "'while test -e $hold && test backup_label -nt $hold -o backup_label.old -nt $hold; do sleep 0.05; done; false'");
    my $log = $cluster->log_size($old);
    $cluster->launch($old);
    $cluster->wait_log($old, qr/pg_ha_rejoin: done: rewound to $new/, "$old is rewound", $log);
    $cluster->wait_log($old, qr/starting as a standby.*starting as a standby/s, 'and starts again', $log);
    my $still = $cluster->sql($new, $unflushed);
    $cluster->kill_everything($new);
    unlink $hold or die "unlink: $!";
    is($cluster->wait_primary($old, $third), $third, "$third is elected: $old cannot be promoted yet");
    return ($new, $third, $log, $still);
}

# With all rights.
my ($lost, $primary, $log, $still) = lose_two('london');
is($still, 'f', 'what the rewound server needs was flushed');
$cluster->wait_standby_of('london', $primary);
is($cluster->sql($primary, 'SELECT count(*) FROM filler WHERE id < 0'), 200, 'and replicated');
unlike($cluster->log_text('london', $log), qr/cloning anew|data files need/, 'london follows');
$cluster->start($lost);
$cluster->wait_ready($primary);

# Without the one that asks for it, which everybody has by default.
$cluster->sql($primary, 'REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC; DELETE FROM filler WHERE id < 0');
my $old = $primary;
($lost, $primary, $log, $still) = lose_two($old);
is($still, 't', 'what the rewound server needs was not flushed');
is($cluster->sql($primary, 'SELECT count(*) FROM filler WHERE id < 0'), 0, 'and is lost');
$cluster->wait_log($old, qr/diverged from $primary, which left that history at \S+ \d+ bytes before: its data files need that WAL, it is to be cloned anew/,
    "$old does not follow", $log);
$cluster->poll($primary, "SELECT reason FROM ha_members WHERE name = '$old'", qr/need WAL up to \S+ that $primary does not have: it has to be cloned anew/, 'and says why');
is($cluster->sql($primary, 'SELECT ha_is_primary()'), 't', "$primary leads with its vote");
unlike($cluster->log_text($old, $log), qr/cloning anew|PANIC/, "which it keeps");
$cluster->start($lost);
$cluster->wait_log($old, qr/cloning anew: its data files need WAL that was lost with a primary/, "$old is cloned when it can be spared", $log);
$cluster->wait_standby_of($old, $primary, 120);
$cluster->wait_ready($primary);
$cluster->sql($primary, 'CREATE EXTENSION amcheck');
$cluster->compare_data($primary, [ $cluster->names ], qw(filler ledger));
done_testing();
