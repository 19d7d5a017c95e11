# SPDX-License-Identifier: PostgreSQL
#
# A primary with restart_after_crash = off ends when it loses its term, and its next start is a standby, rewound first
# where it has to be.  And a server whose settings would stop recovery under another primary: every member says so while
# there is time; without being heeded it stays fenced, and readable, until the setting is raised.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(limit => 600, settings => "restart_after_crash = off\n");
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE TABLE filler (id int PRIMARY KEY, text text)', 'CREATE EXTENSION amcheck';

# Frozen past its lease, it wakes up in another's term.
sub lose_term {
    my ($old) = @_;
    $cluster->freeze($old);
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $cluster->wait_writes(50, "on $new");
    $cluster->thaw($old);
    return $new;
}

# Streams from the new primary; if it has WAL of its own it asks for another restart first.
sub home {
    my ($old, $new, $log) = @_;
    my $restarts = 0;
    $cluster->until_true(180, "$old streams from $new", sub {
        return 1 if $cluster->streams($old, $new);
        if (!$restarts && $cluster->log_text($old, $log) =~ m{has to be rewound to the history of $new.*restart_after_crash is off, so restart}s) {
            ++$restarts;
            $cluster->stop($old);
            $cluster->start($old);
        }
        return;
    });
    pass("$old streams from $new");
    return $restarts;
}

# -- restart_after_crash = off
my $old = 'london';
for my $diverged (0, 1) {
    $cluster->start_writer;
    $cluster->wait_writes(50, "on $old");
    $cluster->diverge($old, 2000) if $diverged;
    my $log = $cluster->log_size($old);
    my $new = lose_term($old);
    my $how = $diverged ? 'with WAL of its own' : 'without WAL of its own';
    $cluster->until_true(60, "$old ends, $how", sub { !PgHaCluster::is_running($cluster->postmaster($old)) });
    like($cluster->log_text($old, $log), qr{restarting as a standby: .*restart_after_crash is off, so this server ends now}s,
        "$how: its log says that it ends and why");
    ok(-e $cluster->data($old) . '/standby.signal', 'standby.signal was written before');
    $cluster->start($old);
    is($cluster->sql($old, 'SELECT pg_is_in_recovery()'), 't', "the next start of $old is a standby");
    my $restarts = home($old, $new, $log);
    if ($diverged) {
        is($restarts, 1, 'it asked for another restart');
        like($cluster->log_text($old, $log), qr{pg_ha_rejoin: done: rewound to $new}, 'which has rewound it');
    }
    $cluster->stop_writer;
    $cluster->wait_ready($new, 120);
    $cluster->compare_data($new, [ $cluster->names ], qw(ledger filler));
    $old = $new;
}

# -- parameters: the other two get more than the primary has
my @others = grep { $_ ne $old } $cluster->names;
for my $name (@others) {
    $cluster->stop($name);
    $cluster->write_node_settings($name, max_connections => 150);
    $cluster->start($name);
    $cluster->wait_standby_of($name, $old);
}
$cluster->wait_ready($old, 120);
my $why = 'max_connections is 100 here and 150 there';
for my $name ($cluster->names) {
    $cluster->poll($name, "SELECT reason LIKE '%could not follow % as primary: $why%' FROM ha_members WHERE name = '$old'", 't',
        "$name says that $old could not follow");
}
my $quiet = "SELECT count(*) FROM ha_members WHERE name <> '$old' AND reason LIKE '%follow % as primary%'";
$cluster->poll($old, $quiet, '0', 'nothing is said about those that could');
$cluster->wait_log($old, qr{WARNING:  pg_ha: this server could not follow}, 'its log warns');

my (undef, undef, $refusal) = $cluster->try_sql($old, "SELECT ha_switchover('$others[0]')");
like($refusal, qr{$others[0] could not be followed by this server: $why}, 'a switchover is refused, since this server could not follow');

$cluster->start_writer;
$cluster->wait_writes(50, "on $old");
my $log = $cluster->log_size($old);
my $new = lose_term($old);
$cluster->wait_log($old, qr{is fenced, but does not become a standby: it cannot follow $new: $why}, 'it refuses to become a standby', $log);
my $pid = $cluster->postmaster($old);
ok(PgHaCluster::is_running($pid), 'its server goes on');
is(($cluster->try_sql($old, 'SELECT count(*) > 0 FROM ledger'))[1], 't', 'and can be read');
my ($status, undef, $error) = $cluster->try_sql($old, 'INSERT INTO ledger VALUES (-1, 0)');
isnt($status, 0, 'but writes nothing');
like($error, qr{25006}, 'because it is fenced');
$cluster->poll($new, "SELECT reason LIKE '%cannot follow $new: $why%' FROM ha_members WHERE name = '$old'", 't', "$new says why");
$cluster->stop($old);
$cluster->write_node_settings($old, max_connections => 150);
$cluster->start($old);
home($old, $new, $log);
$cluster->wait_ready($new, 120);
$cluster->poll($new, "SELECT count(*) FROM ha_members WHERE reason LIKE '%follow % as primary%'", '0', 'and no alarm is left');
$cluster->verify_ledger($new);
$cluster->compare_data($new, [ $cluster->names ], qw(ledger filler));
done_testing();
