# SPDX-License-Identifier: PostgreSQL
#
# Terms that nobody led leave gaps between the timelines, and empty history files in the gaps: PostgreSQL looks for the
# newest timeline by counting them.  A server that stops between its last checkpoint on an old timeline and the next one
# still knows all of its WAL after a start.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;

# Nothing but a restartpoint tells the control file how far the WAL of a standby reaches.
my $cluster = PgHaCluster->new(settings => "bgwriter_lru_maxpages = 0\ncheckpoint_timeout = '1h'\npg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);

# -- a new term far above the last: an operator's word, as too many voters are gone
$cluster->stop('rome');
$cluster->power_off('london', 'paris');
$cluster->start('paris');
$cluster->until_true(60, 'paris is made the primary',
    sub { ($cluster->try_sql('paris', 'SELECT ha_failover(accept_data_loss => true)', 90))[0] == 0 });
my $timeline = $cluster->sql('paris', 'SELECT timeline FROM ha_members WHERE is_self');
cmp_ok($timeline, '>', 3, 'on a timeline far above the last');
for my $name (qw(london rome)) {
    $cluster->start($name);
    $cluster->wait_standby_of($name, 'paris');
}
$cluster->wait_ready('paris');

# -- power off: rome has what was acknowledged, london does not
$ledger->start;
$ledger->wait(100, 'on the new timeline');
$cluster->hold_stream('paris', 'london');
$ledger->wait(100, 'that london lacks');
$cluster->power_off;
$ledger->stop;
$cluster->start('rome');
$cluster->poll('rome', 'SELECT timeline FROM ha_members WHERE is_self', $timeline, 'rome knows on which timeline its WAL ends');
$cluster->start('london');
is($cluster->wait_primary('london', 'rome'), 'rome', 'who has everything is elected');
$cluster->start('paris');
$ledger->verify($cluster->wait_whole(120));

# -- a clone has the newest history only, and needs the others as soon as it is the source of a rewind
sub histories {
    my ($name) = @_;
    return map { s{.*/}{}r => -s } glob $cluster->data($name) . '/pg_wal/*.history';
}
$cluster->wait_whole(120);
my %before = histories('paris');
my ($newest) = reverse sort keys %before;
$cluster->stop('paris');
unlink map { $cluster->data('paris') . "/pg_wal/$_" } grep { $_ ne $newest } keys %before;
$cluster->start('paris');
is_deeply({ histories('paris') }, \%before, 'what is missing is made from it');
like($cluster->log_text('paris'), qr/pg_ha: \d+ missing timeline history files were made/, 'and said');
done_testing();
