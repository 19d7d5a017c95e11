# SPDX-License-Identifier: PostgreSQL
#
# Commits wait for standbys that don't answer, and are cancelled or terminated, again and again; a fast stop
# meets some of them, too.  PostgreSQL answers a cancelled wait as a commit, with a warning.  Here nobody is
# told anything, and nothing that anybody was told is lost with the primary.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;
use Time::HiRes qw(time sleep);

# Or the primary gives up standbys that are silent for 2 s, and acknowledges alone.
my $cluster = PgHaCluster->new(settings => "pg_ha.min_sync_standbys = 1\n");
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);

# Returns the processes that have to go on in the end.
sub silence_standbys {
    my ($primary) = @_;
    my @walreceivers = map { $cluster->sql($_, 'SELECT pid FROM pg_stat_wal_receiver') } grep { $_ ne $primary } $cluster->names;
    kill('STOP', @walreceivers) == 2 or die "cannot stop the walreceivers: $!";
    return @walreceivers;
}
my $waiting = q{FROM pg_stat_activity WHERE application_name = 'ledger' AND wait_event = 'SyncRep'};

$ledger->start;
$ledger->wait(200, 'before anything is cancelled');
my @silent = silence_standbys('london');
$cluster->poll('london', "SELECT count(*) > 1 $waiting", 't', 'commits wait');
my $told = $ledger->acknowledged;
my $interrupted = 0;
my $end = time + 1.5;
while (time < $end) {
    for my $function (qw(pg_cancel_backend pg_terminate_backend)) {
        $interrupted += $cluster->sql('london', "SELECT count(*) FILTER (WHERE $function(pid)) $waiting");
    }
}
cmp_ok($interrupted, '>', 10, 'commits were interrupted while they waited');
is($ledger->acknowledged, $told, 'none was acknowledged');
like($cluster->log_text('london'), qr/closing the connection instead of answering COMMIT/, 'the log of the primary tells it');
$cluster->kill_everything('london');
kill 'CONT', @silent;
my $new = $cluster->wait_primary(qw(paris rome));
$ledger->wait(200, "from $new", $new);
$cluster->start('london');
$cluster->bring_back('london', $new);
$cluster->wait_ready($new);

# A fast stop ends the waiting sessions.  No standby answers before it is through.
@silent = silence_standbys($new);
$cluster->poll($new, "SELECT count(*) > 1 $waiting", 't', 'commits wait again');
$told = $ledger->acknowledged($new);
$cluster->request_stop($new, 'fast');
$cluster->wait_log($new, qr/received fast shutdown request/, "$new is being stopped");
sleep 0.3;
is($ledger->acknowledged($new), $told, 'a fast stop acknowledges none of them');
kill 'CONT', @silent;
my $pid = $cluster->postmaster($new);
$cluster->until_true(60, "$new has stopped", sub { !PgHaCluster::is_running($pid) });
my $last = $cluster->wait_primary(grep { $_ ne $new } $cluster->names);
$ledger->wait(200, "from $last", $last);
$ledger->verify($last);
done_testing();
