# SPDX-License-Identifier: PostgreSQL
#
# pg_hactl switchover, pause, resume and remove: through any member they reach the primary, what they say has
# happened is so, and what is refused or cannot be asked ends with its own exit status and a hint.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaCtl;
use Test::More;

my $cluster = PgHaCluster->new(limit => 600);
my $ctl = PgHaCtl->new($cluster);
my $all = $ctl->conninfo;

$ctl->says(0, qr{Usage: pg_hactl $_ .*Exit status}s, "$_: --help", $_, '--help') for qw(switchover pause resume remove);
$ctl->says(4, qr{HINT}, "wrong command line: @$_", @$_) for ['remove'], [qw(switchover paris)], [qw(pause paris)], [qw(remove paris rome)];
$ctl->says(3, qr{Connection refused}, "$$_[0] of a cluster that is down", @$_, '-d', $all) for ['switchover'], ['pause'], [qw(remove rome)];

$cluster->start_all;
sub through { return ('-d', $ctl->conninfo(@_)); }

# ---- refused, and nothing has changed -----------------------------------------------------------------------
$cluster->sql('london', 'CREATE ROLE reader LOGIN');
$ctl->says(1, qr{permission denied for function ha_pause}, 'an ordinary role', 'pause', '-d', $ctl->conninfo('paris') =~ s/user=postgres/user=reader/r);
$ctl->says(1, qr{no member of the cluster is called "berlin".*^HINT}ms, 'to a stranger', qw(switchover --to berlin), through('paris'));
$ctl->says(1, qr{london is the primary already.*^HINT}ms, 'to itself', qw(switchover --to london), through('rome'));
$ctl->says(1, qr{stop it first.*^HINT}ms, 'a member that runs is not removed', qw(remove rome), through('paris'));
is($cluster->find_primary, 'london', 'london is still the primary');
is($cluster->sql('london', 'SELECT members, paused FROM ha_cluster'), '3|f', 'of the same cluster');

# ---- switchover, asked of a standby; then by default, asked of the old primary ------------------------------
$cluster->start_writer;
$cluster->wait_writes(100, 'before the switchover');
sub switches_over {
    my ($what, @arguments) = @_;
    my $before = $cluster->wait_primary;
    $cluster->wait_ready($before);
    my ($status, $out, $err) = $ctl->run('switchover', @arguments);
    my ($after, $term, $seconds) = $out =~ m{^(\w+) is the primary of term (\d+), after $before; the switchover took ([0-9.]+) s$};
    ok($status == 0 && $after, $what) or diag("status $status\n$out$err");
    $after = $cluster->wait_primary(grep { $_ ne $before } $cluster->names);
    return ($before, $after, $out, $term);
}
my ($before, $after, $said, $term) = switches_over('to paris, through rome', qw(--to paris), through('rome'));
like($said, qr{^paris is the primary}, 'it says that paris is the primary');
is($after, 'paris', 'and so it is');
cmp_ok($term, '>', 1, 'of a newer term');
$cluster->wait_writes(100, 'on paris');
$cluster->bring_back('london', 'paris');
($before, $after, $said) = switches_over('to the best, through a standby', through('london'));
like($said, qr{^$after is the primary}, 'it names the new one');

# ---- the answer gets lost: what it says then is what is so ----------------------------------------------------
$cluster->bring_back($before, $after);
$cluster->wait_ready($after);
my $primary = $after;
my ($deaf) = grep { $_ ne $primary } $cluster->names;
my @receiver = split /\n/, $cluster->sql($deaf, 'SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', @receiver;    # the switchover waits for it
my $pid = $ctl->start("$cluster->{dir}/lost.log", 'switchover', '--to', $deaf, '-d', $all);
my $cut = 0;
$cluster->until_true(90, 'its session is ended, or it was done before', sub {
    $cut = $cluster->sql($primary, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        . " WHERE application_name = 'pg_hactl' AND query LIKE '%ha_switchover%'");
    return $cut || !PgHaCluster::is_running($pid);
});
kill 'CONT', @receiver;
$cluster->until_true(90, 'pg_hactl ends', sub { !PgHaCluster::is_running($pid) });
my $answer = do { local (@ARGV, $/) = "$cluster->{dir}/lost.log"; <> };
my $is = $cluster->wait_primary;
if ($is ne $primary) { like($answer, qr{^$is is the primary}, 'a switchover, and it is found out'); }
elsif ($cut) { like($answer, qr{did not answer, and no other primary was found}, 'no switchover, and none is claimed'); }
else { like($answer, qr{^HINT}m, 'given up before its session could be ended'); }
$cluster->wait_writes(100, "on $is");
$primary = $is;
$cluster->bring_back($_, $primary) for grep { $_ ne $primary } $cluster->names;
$cluster->wait_ready($primary);

# ---- pause, through a standby; without a primary nothing can be ordered -----------------------------------------
my @standbys = grep { $_ ne $primary } $cluster->names;
$ctl->says(0, qr{^elections are paused$}, 'pause', 'pause', through($standbys[0]));
is($cluster->sql($primary, 'SELECT paused FROM ha_cluster'), 't', 'it is so');
$cluster->kill_everything($primary);
$ctl->comes_to_say(2, qr{no primary can be asked.*HINT:  "pg_hactl status"}s, 'no primary', 'resume', '-d', $all);
$ctl->says(2, qr{no primary can be asked}, '... for a switchover neither', 'switchover', '-d', $all);
$cluster->start($primary);
is($cluster->wait_primary, $primary, 'the old primary leads again');
$ctl->comes_to_say(0, qr{^elections go on$}, 'resume', 'resume', through($standbys[1]));
is($cluster->sql($primary, 'SELECT paused FROM ha_cluster'), 'f', 'it is so');

# ---- removal -------------------------------------------------------------------------------------------------------
$cluster->wait_ready($primary);
$cluster->kill_everything($standbys[1]);
$cluster->poll($primary, "SELECT liveness FROM ha_members WHERE name = '$standbys[1]'", 'unreachable', "$standbys[1] is away");
$ctl->says(0, qr{^$standbys[1] is no member any more\n.*WARNING:  a failover is not possible: .*three voters}s, 'remove says what is lost by it',
    'remove', $standbys[1], through($standbys[0]));
is($cluster->sql($primary, 'SELECT count(*) FROM ha_members'), '2', 'it is gone');
$cluster->verify_ledger($primary);
done_testing();
