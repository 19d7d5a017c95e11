# SPDX-License-Identifier: PostgreSQL
#
# An old primary holds WAL that nobody else has and follows the new primary, whose other standby is silent.
# PostgreSQL would let it stream and take its position, which is ahead, as an acknowledgement of commits
# that it doesn't have.  It must not stream, and no acknowledged commit may be missing afterwards.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE ballast (t text)');
$cluster->poll('london', 'SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_insert_lsn()', 2, 'all have it');

# WAL that stays on london.
$cluster->keep_standbys('london');
my @walsenders = split /\n/, $cluster->sql('london', 'SELECT pid FROM pg_stat_replication');
kill('STOP', @walsenders) == 2 or die "cannot stop the walsenders: $!";
my ($status) = $cluster->try_sql('london', q{INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 5000)}, 1);
is($status, 124, 'a commit that no standby has is not acknowledged');
$cluster->kill_everything('london');
my $new = $cluster->wait_primary(qw(paris rome));
my ($other) = grep { $_ ne $new } qw(paris rome);
$cluster->wait_standby_of($other, $new);
my $ledger = PgHaLedger->new($cluster, sessions => 2);
$ledger->start;
$ledger->wait(200, "from $new", $new);

$cluster->start('london');
$cluster->poll($new, q{SELECT liveness FROM ha_members WHERE name = 'london'}, 'alive', 'london is there');
$cluster->freeze($other);
my $end = time + 4;
my $streamed = 0;
while (time < $end) {
    ++$streamed if $cluster->streams('london', $new) && ($cluster->try_sql('london', 'SELECT count(*) FROM ballast'))[1] =~ /^[1-9]/;
    sleep 0.05;
}
is($streamed, 0, 'london does not stream with its WAL of a dead timeline');

# The primary is lost, the silent standby returns.  Whoever is primary then has everything.
$cluster->kill_everything($new);
$cluster->thaw($other);
$end = time + 5;
sleep 0.1 while time < $end && !defined $cluster->find_primary($other, 'london');
if (defined $cluster->find_primary('london')) {
    like($cluster->log_text('london'), qr/rewound to ${new}'s history/, 'london is elected, but not with its WAL of a dead timeline');
} else {
    pass('london is not elected');
}
$cluster->start($new);
$ledger->verify($cluster->wait_primary($cluster->names));
done_testing();
