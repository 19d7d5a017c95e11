# SPDX-License-Identifier: PostgreSQL
#
# The old primary is started while nobody else can be reached: their ports are closed, or their kernel answers
# and they do not.  It comes up read-only at once, says for whom it waits, shows its rows to nobody who could
# take them for committed, and comes home when the others are back.  Also when it was promoted so recently that
# its control file still names a point of its recovery: stock PostgreSQL then opens before it has replayed its WAL.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(limit => 600, settings => "pg_ha.fence_wait = '300ms'\npg_ha.lease_duration = '5s'\npg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE ROLE visitor LOGIN');
$cluster->sql('london', 'GRANT SELECT ON ledger TO visitor');
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');

# As somebody without rights: (status, answer, error)
sub visit {
    my ($name, $query) = @_;
    my ($status, $answer, $error) = PgHaCluster::run_command(20, "$cluster->{bindir}/psql",
        qw(-XAtq -v VERBOSITY=verbose -h 127.0.0.1 -p), $cluster->node($name)->{port}, qw(-U visitor -d postgres -c), $query);
    chomp $answer;
    return ($status, $answer, $error);
}

sub waits_for {
    my ($name, $log, $what, @others) = @_;
    my ($one, $two) = sort @others;
    is($cluster->sql($name, 'SELECT pg_is_in_recovery() AND NOT ha_is_primary()'), 't', "$what: $name is read-only");
    $cluster->poll($name, "SELECT reason FROM ha_members WHERE name = '$name'", qr/^waits: .*missing (?=.*$one)(?=.*$two)/, "$what: its status says for whom it waits");
    $cluster->wait_log($name, qr/waits: .*missing (?=.*$one)(?=.*$two)/, "$what: so does its log", $log);
    my ($status, undef, $error) = visit($name, 'SELECT count(*) FROM ledger');
    isnt($status, 0, "$what: who comes to read is turned away");
    like($error, qr/was a primary, and may hold rows that no other server has.*HINT:  No other primary is known: .*missing (?=.*$one)(?=.*$two)/s, "$what: and told why");
}

# -- the others run on, frozen: a connection to them is made and never answered
$cluster->start_writer;
$cluster->wait_writes(100, 'before the first fault');
$cluster->diverge('london', 500);
$cluster->kill_everything('london');
my $new = $cluster->wait_primary(qw(paris rome));
$cluster->wait_writes(100, "on $new");
$cluster->stop_writer;
$cluster->freeze($_) for qw(paris rome);
my ($log, $before) = ($cluster->log_size('london'), time);
$cluster->start('london');
cmp_ok(time - $before, '<', 30, 'london does not wait for an answer to start');
waits_for('london', $log, 'others frozen', qw(paris rome));
my $pid = $cluster->postmaster('london');
$cluster->thaw($_) for qw(paris rome);
$new = $cluster->wait_primary(qw(paris rome));
$cluster->bring_back('london', $new);
is($cluster->postmaster('london'), $pid, 'london came home under the same postmaster');
$cluster->wait_ready($new);
$cluster->start_writer;
$cluster->wait_writes(100, 'with all three');
$cluster->verify_ledger($new);

# -- the ports of the others are closed; and the old primary's control file is stale
my $old = $new;
$cluster->kill_everything($old);
$new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
my ($other) = grep { $_ ne $old && $_ ne $new } $cluster->names;
$cluster->sql($new, 'CHECKPOINT');
$cluster->sql($new, 'INSERT INTO filler SELECT -n, NULL FROM generate_series(1, 100) n');
$cluster->sql($new, 'SELECT pg_switch_wal()');
$cluster->sql($new, 'INSERT INTO filler SELECT -n, NULL FROM generate_series(101, 200) n');
$cluster->sql($new, 'GRANT SELECT ON filler TO visitor');
my $segment = $cluster->sql($new, 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$cluster->power_off;
make_stale($cluster->data($new) . '/global/pg_control');
like($cluster->must_run("$cluster->{bindir}/pg_controldata", $cluster->data($new)), qr{state: +in production.*Minimum recovery ending location: +\d+/[1-9A-F]}s,
    "the control file of $new names a point of its recovery");
# Recovery opens as soon as it has passed that point.  It gets the last segment when we let it.
$cluster->hold_recovery($new, $segment);
$log = $cluster->log_size($new);
$cluster->start($new);
is($cluster->sql($new, 'SELECT count(*) FROM filler WHERE id BETWEEN -200 AND -101'), 0, "PostgreSQL has opened $new before the end of its WAL");
waits_for($new, $log, 'others down', $old, $other);
$cluster->start($other);
my $elected = 0;
for (1 .. 30) {
    ++$elected if defined $cluster->find_primary($new, $other);
    sleep 0.1;
}
is($elected, 0, 'who does not know its position helps nobody to be elected');
$cluster->release_recovery($new);
my $last = $cluster->wait_primary($new, $other);
my ($status, $rows, $error);
$cluster->until_true(60, "visitors are let in on $new",
    sub { ($status, $rows, $error) = visit($new, 'SELECT count(*) FROM filler WHERE id BETWEEN -200 AND -101'); return $status == 0; });
is($rows, 100, "who is let in first on $new sees every row");
$cluster->start($old);
$cluster->wait_ready($last, 120);
$cluster->verify_ledger($last);
done_testing();

# As after a promotion whose checkpoint did not finish: minRecoveryPoint is the place of the newest checkpoint.
# It lies behind unloggedLSN, which is 1000 at first; the CRC-32C of all before it ends the structure.
sub make_stale {
    my ($path) = @_;
    open my $file, '+<:raw', $path or die "$path: $!";
    read $file, my $bytes, 8192;
    my $place = index $bytes, pack('Q<', 1000), 40;
    my ($end) = grep { unpack('L<', substr $bytes, $_, 4) == crc32c(substr $bytes, 0, $_) } map { 4 * $_ } 40 .. 100;
    die "$path: not understood" if $place < 0 || !$end;
    substr($bytes, $place + 8, 12) = substr($bytes, 32, 8) . substr($bytes, 48, 4);    # checkPoint, its timeline
    substr($bytes, $end, 4) = pack 'L<', crc32c(substr $bytes, 0, $end);
    seek $file, 0, 0;
    print $file $bytes;
    close $file or die "$path: $!";
}

sub crc32c {
    my ($bytes) = @_;
    my $crc = 0xFFFFFFFF;
    for my $byte (unpack 'C*', $bytes) {
        $crc ^= $byte;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0x82F63B78 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xFFFFFFFF;
}
