# SPDX-License-Identifier: PostgreSQL
#
# The primary dies within a record that goes over the ends of WAL segments, so the next timeline begins in the midst
# of a segment of which the standbys have more.  PostgreSQL asks for the segment that it lacks, on the new
# timeline, never gets the one before, and PANICs.  Here the other standby and the old primary follow.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use PgHaScenes;
use Test::More;

my $cluster = PgHaCluster->new(segment_mb => 1);
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(200, 'before the long record');
my $bytes = die_within_a_record($cluster);
cmp_ok($bytes, '>', 2 << 20, 'both standbys have more of it than a segment');
my $new = $cluster->wait_primary(qw(paris rome));
my ($follower) = grep { $_ ne $new } qw(paris rome);
$cluster->wait_standby_of($follower, $new);
$ledger->wait(200, "from $new", $new);
$cluster->start('london');
ok(!$cluster->bring_back('london', $new), 'london follows without being rewound');
# The new timeline goes on beyond where the old one ended.
$cluster->sql($new, "SELECT pg_logical_emit_message(false, 'long', repeat('x', $bytes))") for 1 .. 2;
$ledger->wait(200, 'beyond the end of the old timeline', $new);
for my $name ($follower, 'london') {
    my $end = $cluster->sql($new, 'SELECT pg_current_wal_lsn()');
    $cluster->poll($name, "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', "$name has it");
    unlike($cluster->log_text($name), qr/PANIC|diverged from/, 'and nothing fell over');
}
$ledger->verify($new);
done_testing();
