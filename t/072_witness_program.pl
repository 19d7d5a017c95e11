# SPDX-License-Identifier: PostgreSQL
#
# The program pg_ha_witness as its operator meets it: bad input is named with a hint, signals, readiness for
# systemd, several clusters in one process, a lost state, and what it costs in memory.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaWitness;
use File::Copy qw(copy);
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOCK_DGRAM);
use Test::More;
use Time::HiRes qw(time sleep);

my $cluster = PgHaCluster->new(nodes => [qw(london paris)], files => ['pg_ha_witness'],
    settings => "pg_ha.lease_duration = '1s'\n");
$cluster->start_first;
$cluster->clone('paris', 'london');
$cluster->start('paris');
add_witness($cluster, 'athens');
my $dir = witness_directory($cluster, 'athens');
my $config = "$dir/witness.conf";

# ---- what is refused ---------------------------------------------------------------------------------

sub refused {
    my ($status, $pattern, $what, @arguments) = @_;
    my ($got, undef, $error) = run_witness($cluster, @arguments ? @arguments : ('--config', $config));
    is($got, $status, "$what: exit status $status");
    like($error, $pattern, "$what: it says why");
    like($error, qr/^HINT: \S/m, "$what: and what to do");
}

refused(2, qr/no configuration file/, 'no arguments', '--check');
refused(2, qr/could not read configuration file "\/nonexistent"/, 'no such file', '--config', '/nonexistent');
refused(2, qr/unrecognised option '--fast'/, 'unknown option', '--fast');
like((run_witness($cluster, '--help'))[1], qr/--config FILE/, '--help');
like((run_witness($cluster, '--version'))[1], qr/^pg_ha_witness \(pg_ha\) \d/, '--version');

write_witness_config($cluster, 'athens', port => '74x', lease_duration => '100ms', text => "pears = 127.0.0.1\n");
refused(2, qr/port.*lease|lease.*port/s, 'two bad numbers at once');
refused(2, qr/unknown key "pears".*There are: .*peers/s, 'unknown key');
write_witness_config($cluster, 'athens', secret_file => "$dir/nothing");
refused(1, qr/could not open cluster secret file "\Q$dir\E\/nothing"/, 'no secret');
refused(2, qr/could not open cluster secret file/, 'no secret, --check', '--config', $config, '--check');
write_witness_config($cluster, 'athens');
chmod 0644, "$dir/secret";
refused(1, qr/secret.*must have mode 0600/, 'a secret that others may read');
chmod 0600, "$dir/secret";
my $squatter = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $cluster->node('athens')->{peer_port}, Listen => 1, ReuseAddr => 1)
    or die "cannot listen: $!";
refused(1, qr/could not listen on 127.0.0.1, port \d+: Address already in use/, 'a port that is taken');
close $squatter;
my ($status, $out) = run_witness($cluster, '--config', $config, '--check');
is($status, 0, 'a good configuration passes --check');
like($out, qr/witness "athens" of cluster [0-9a-f]{32}/, 'which says what it found');

# ---- start, readiness, memory ------------------------------------------------------------------------

my $ready = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify") or die "socket: $!";
$ready->blocking(0);
sub notified {
    my ($word) = @_;
    $cluster->until_true(20, "systemd is told $word", sub { $ready->recv(my $text, 100); ($text // '') eq $word });
    pass("systemd is told $word");
}
$ENV{NOTIFY_SOCKET} = "$dir/notify";
my $pid = start_witness($cluster, 'athens');
notified('READY=1');
delete $ENV{NOTIFY_SOCKET};
wait_voters($cluster, 'london', 3);
refused(1, qr/state directory "\S+" is in use by another process/, 'a second process with the same state');
like((run_witness($cluster, '--config', $config, '--check'))[1], qr/a voter by its state, in term \d/, '--check beside a running witness');

my ($pss, $rss, $program) = witness_cost($cluster, 'athens');
diag("witness: PSS $pss kB, RSS $rss kB, program $program kB without debug symbols");
cmp_ok($pss, '<=', 8 * 1024, 'it needs a few MB of memory') if $pss;

# ---- reload ------------------------------------------------------------------------------------------

write_witness_config($cluster, 'athens', trace => 'on', port => 1);
kill 'HUP', $pid;
$cluster->wait_log('athens', qr/configuration read again/, 'SIGHUP reads the configuration again');
like($cluster->log_text('athens'), qr/"port" is used only after a restart/, 'and names what needs a restart');
write_witness_config($cluster, 'athens', trace => 'maybe');
kill 'HUP', $pid;
$cluster->wait_log('athens', qr/the configuration stays as it was: .*"trace"/, 'a bad file changes nothing');
ok(PgHaCluster::is_running($pid), 'and ends nothing');
write_witness_config($cluster, 'athens');

# ---- a lost state, and two witnesses in one process --------------------------------------------------

$ENV{NOTIFY_SOCKET} = "$dir/notify";
stop_witness($cluster, 'athens');
delete $ENV{NOTIFY_SOCKET};
notified('STOPPING=1');
my $old = $cluster->sql('london', "SELECT node_id FROM ha_members WHERE name = 'athens'");
PgHaCluster::write_file("$dir/state/state", 'rubbish');
my $last = $cluster->node('athens')->{peer_port};
write_witness_config($cluster, 'athens', (map { $_ => undef } qw(node_name port state_directory)), text => <<"END");
[first]
node_name = athens
port = $last
state_directory = $dir/state
[second]
node_name = sparta
port = ${\($last + 1)}
state_directory = $dir/second
END
start_witness($cluster, 'athens');
$cluster->wait_log('athens', qr/first: the state in \S+ is not usable/, 'a damaged state is noticed and set aside');
ok(-e "$dir/state/state.unusable", 'and kept');
$cluster->poll('london', "SELECT liveness FROM ha_members WHERE name = 'athens' AND node_id <> '$old'", 'alive',
    'the witness comes back under a new identity');
$cluster->poll('london', "SELECT count(*), count(*) FILTER (WHERE voter), bool_and(liveness = 'alive') FROM ha_members WHERE kind = 'witness'",
    '2|1|t', 'of the two witnesses of one process one votes: two may not outvote two servers');
$cluster->poll('london', 'SELECT failover_possible, voters, members FROM ha_cluster', 't|3|4', 'three voters, four members');

# ---- another cluster, with a secret of its own, in the same process ----------------------------------

my $other = PgHaCluster->new(nodes => ['madrid'], settings => "pg_ha.lease_duration = '1s'\n");
$other->start_first;
copy($other->data('madrid') . '/pg_ha.secret', "$dir/other_secret") or die "copy: $!";
chmod 0600, "$dir/other_secret";
my $peer = $other->node('madrid')->{peer_port};
PgHaCluster::append("$dir/witness.conf", <<"END");
[third]
node_name = corinth
port = ${\($peer + 1)}
peers = 127.0.0.1:$peer
state_directory = $dir/third
secret_file = $dir/other_secret
END
stop_witness($cluster, 'athens');
start_witness($cluster, 'athens');
$other->poll('madrid', "SELECT string_agg(name || ' ' || liveness, ', ') FROM ha_members WHERE kind = 'witness'", 'corinth alive',
    'the same process is a member of another cluster');
$cluster->poll('london', "SELECT string_agg(name || ' ' || liveness, ', ' ORDER BY name) FROM ha_members WHERE kind = 'witness'",
    'athens alive, sparta alive', 'and of the first one as before');
$cluster->poll('london', 'SELECT failover_possible, voters FROM ha_cluster', 't|3', 'where it votes');

my $begin = time;
stop_witness($cluster, 'athens');
cmp_ok(time - $begin, '<', 5, 'SIGTERM ends it');
is($cluster->exit_status('athens'), 0, 'with status 0');
done_testing();
