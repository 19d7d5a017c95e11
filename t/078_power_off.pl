# SPDX-License-Identifier: PostgreSQL
#
# The power goes under load, and the servers come back in every order.  The first alone waits, read-only, and
# says for whom; two of three elect the one that has everything; nothing acknowledged is lost; the third comes
# home.  One standby lacks the last commits each time: it must never be the one that is elected.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;

my $cluster = PgHaCluster->new(limit => 600, settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
$cluster->sql('london', 'CREATE EXTENSION amcheck');
my $ledger = PgHaLedger->new($cluster, sessions => 2);
my $primary = 'london';

# It is read-only, and people can see why: in its status, in its log, and where they try to write.
sub waits_alone {
    my ($name, $log) = @_;
    my @others = sort grep { $_ ne $name } $cluster->names;
    my $missing = join ', ', @others;
    $cluster->poll($name, "SELECT reason FROM ha_members WHERE name = '$name'",
        qr/^waits: there is no primary, and no majority of the voters: missing (?:$others[0], $others[1]|$others[1], $others[0])$/,
        "$name waits for $missing");
    $cluster->wait_log($name, qr/waits: there is no primary, and no majority of the voters: missing/, 'its log says so', $log);
    is($cluster->sql($name, 'SELECT pg_is_in_recovery() AND NOT ha_is_primary()'), 't', "$name is read-only");
    my ($status, undef, $error) = $cluster->try_sql($name, 'INSERT INTO ledger VALUES (0, 0)');
    isnt($status, 0, "nobody can write on $name");
    like($error, qr/25006.*HINT:  No other primary is known: .*missing (?:$others[0], $others[1]|$others[1], $others[0])/s, 'and who tries is told who is missing');
}

my @orders = map { [split //] } qw(012 021 102 120 201 210); # of: primary, standby with everything, standby that lags
for my $order (@orders) {
    my ($whole, $lags) = grep { $_ ne $primary } $cluster->names;
    ($whole, $lags) = ($lags, $whole) if $order->[0] % 2;
    my @start = ($primary, $whole, $lags)[@$order];
    my $who = "started: @start; $primary was the primary, $lags lagged";
    $ledger->start;
    $ledger->wait(100, "before the power goes, $who");
    kill 'STOP', $cluster->process($lags, 'walreceiver');
    $ledger->wait(50, "that $lags lacks");
    $cluster->power_off;
    $ledger->stop;
    my $log = $cluster->log_size($start[0]);
    $cluster->start($start[0]);
    waits_alone($start[0], $log);
    $cluster->start($start[1]);
    $primary = $cluster->wait_primary(@start[0, 1]);
    isnt($primary, $lags, "who lags is not elected, $who");
    $ledger->start;
    $ledger->wait(50, 'with two of three');
    $cluster->start($start[2]);
    $cluster->until_true(120, 'everybody is at home', sub {
        $primary = $cluster->find_primary // return 0;
        return 2 == grep { $_ ne $primary && $cluster->streams($_, $primary) } $cluster->names;
    });
    $primary = $cluster->wait_whole;
    $ledger->verify($primary);
    is_deeply([ $cluster->primaries ], [$primary], 'there is exactly one primary');
}
$cluster->compare_data($primary, [ $cluster->names ], 'ledger');
done_testing();
