# SPDX-License-Identifier: PostgreSQL
#
# pg_hactl status, watch and diverged: what they show of a cluster that is whole, hurt, headless or gone, and
# of WAL that was set aside; pg_hactl clone --restored, which adopts a backup of this cluster and no other; and
# a clone whose configuration lies outside its data directory, as Debian's does.
use strict;
use warnings;
use FindBin;
use JSON::PP;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaCtl;
use Test::More;

# Small segments, so that the diverged range spans several.
my $cluster = PgHaCluster->new(limit => 480, segment_mb => 1, nodes => [qw(london paris rome oslo turin)]);
$cluster->hold_pg_rewind;
my $ctl = PgHaCtl->new($cluster);
my @three = qw(london paris rome);
my $all = $ctl->conninfo(@three);

$ctl->says(0, qr{Usage.*Exit status}s, "$_: --help", split(/ /, $_), '--help') for '', qw(status watch clone diverged);
$ctl->says(4, qr{HINT}, "wrong command line: @$_", @$_) for [], ['dance'], ['status', '--jsn'], ['diverged', 'list'];
$ctl->says(3, qr{Connection refused}, 'status of a cluster that is down', 'status', '-d', $all);

# ---- one server, then three -----------------------------------------------------------------------------------
$cluster->start_first;
$ctl->says(1, qr{^degraded: primary london.*failover is not possible}s, 'one server alone is degraded', 'status', '-d', $all);
for my $name (qw(paris rome)) {
    $cluster->clone($name, 'london');
    $cluster->start($name);
}
$cluster->poll('london', 'SELECT failover_possible, voters FROM ha_cluster', 't|3', 'three vote');
$cluster->until_true(60, 'status says healthy from each of them', sub { !grep { ($ctl->run('status', '-d', $ctl->conninfo($_)))[0] } @three });
$ctl->comes_to_say(0, qr{^healthy: primary london, term \d+, 3 voters.*^NAME .*^london .* primary .*^paris .* standby .*^rome .* standby }ms,
    'three are healthy', 'status', '-d', $all);
my $json = decode_json($ctl->comes_to_say(0, qr{^\{.*\}$}s, '--json', 'status', '--json', '-d', $all));
is($json->{health}, 'healthy', '... says so');
is_deeply([ sort map { $_->{name} } @{ $json->{members} } ], [ sort @three ], '... and names the members');
ok(exists $json->{cluster}{$_}, "... with the column $_") for qw(failover_possible sync_set lease_left);
my $watched = $ctl->comes_to_say(0, qr{healthy.*healthy}s, 'watch looks again and again', 'watch', '--interval', '0.1', '--count', 2, '-d', $all);
is(scalar(() = $watched =~ /^NAME /mg), 2, '... as often as it was asked to');
my $endless = $ctl->start("$cluster->{dir}/watch.log", 'watch', '--interval', '0.1', '-d', $all);
$cluster->until_true(20, 'watch shows something', sub { -s "$cluster->{dir}/watch.log" });
kill 'INT', $endless;
$cluster->until_true(10, 'Ctrl-C ends watch', sub { !PgHaCluster::is_running($endless) });

# ---- a backup, restored: for oslo -----------------------------------------------------------------------------
my $oslo = $cluster->data('oslo');
my @adopt = ('clone', '--restored', '-D', $oslo, '--from', $all, $ctl->own_settings('oslo'));
sub backup { $cluster->must_run("$cluster->{bindir}/pg_basebackup", '-D', $oslo, '-d', $ctl->conninfo($_[0]), qw(-c fast --no-sync -R)); }
$ctl->says(1, qr{no data directory in}, '--restored: there is nothing', @adopt);
my $stranger = "$cluster->{dir}/stranger";
$cluster->must_run("$cluster->{bindir}/initdb", '-D', $stranger, qw(-U postgres -A trust --no-sync));
$ctl->comes_to_say(1, qr{is a backup of another cluster|of database system \d+, and the cluster of}, '--restored: another system',
    'clone', '--restored', '-D', $stranger, '--from', $all, $ctl->own_settings('oslo'));
ok(!-e "$stranger/standby.signal", '... is left alone');
backup('london');
PgHaCluster::append("$oslo/postgresql.auto.conf", "recovery_target_name = 'x'\n");
$ctl->comes_to_say(1, qr{recovery_target_name is set.*HINT}s, '--restored: it would stop following', @adopt);
PgHaCluster::append("$oslo/postgresql.auto.conf", "recovery_target_name = ''\n");
PgHaCluster::write_file("$oslo/recovery.signal", '');
$ctl->comes_to_say(0, qr{ready to join as "oslo"}, '--restored: a base backup of the cluster is adopted', @adopt);
my $auto = do { local (@ARGV, $/) = "$oslo/postgresql.auto.conf"; <> };
unlike($auto, qr{primary_conninfo}, 'what pg_ha chooses itself is taken out of the settings');
ok(-e "$oslo/standby.signal" && !-e "$oslo/recovery.signal", 'it starts as a standby');

# ---- the primary is lost with WAL that nobody else has --------------------------------------------------------
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
my $state = $cluster->state_directory('london');
$ctl->says(0, qr{no diverged WAL is kept}, 'diverged list: none', 'diverged', 'list', '-D', $cluster->data('london'));
$ctl->says(1, qr{no diverged WAL is kept}, 'diverged show: none', 'diverged', 'show', '-D', $cluster->data('london'));
$cluster->diverge('london', 8000);
$cluster->kill_everything('london');
$cluster->wait_primary(qw(paris rome));
# From whoever is the primary: a busy machine may elect again.
sub streams {
    my ($name) = @_;
    $cluster->until_true(120, "$name streams", sub { my $primary = $cluster->find_primary(@three); $primary && $cluster->streams($name, $primary) });
    pass("$name streams");
}
$cluster->until_true(60, 'status says that a member is missing',
    sub { my ($status, $out) = $ctl->run('status', '-d', $all); $status == 1 && $out =~ /^degraded: primary (?:paris|rome).*london is /s });
$cluster->launch('london');
my $rewind = $cluster->halted_rewind('london');
my $shown = qr{^london .* unreachable .*^  london: is being rewound(?:: \d+ % of \d+ MB)?$}ms;
$ctl->comes_to_say(1, $shown, "status asked of $_ shows how far the rejoin is", 'status', '-d', $ctl->conninfo($_)) for qw(paris rome);
my $in_time = "$all connect_timeout=3";    # london, the first of them, hangs
$ctl->comes_to_say(1, $shown, 'so does watch', 'watch', '--count', 1, '-d', $in_time);
my @rows = @{ decode_json($ctl->comes_to_say(1, qr{is being rewound}, 'and --json', 'watch', '--count', 1, '--json', '-d', $in_time))->{members} };
like((grep { $_->{name} eq 'london' } @rows)[0]{reason}, qr{^is being rewound}, '... in its row');
kill 'CONT', $rewind;
streams('london');
my $list = decode_json($ctl->says(0, qr{"name"}, 'diverged list', 'diverged', 'list', '--json', '-D', $cluster->data('london')));
is(scalar @$list, 1, 'one range is kept');
my @show = ('diverged', 'show', '--state-directory', $state);
my $range = "$list->[0]{from} to $list->[0]{to}";
$ctl->says(0, qr{timeline 1, \Q$range\E.*records .*1 committed.*\n\d+/\d+/\d+ +\d+ +8000 +0 +0\n}s, 'diverged show counts what was lost', @show);
$ctl->says(0, qr{postgres: public\.filler +\d+ +8000 .*public\.filler_pkey \(index of public\.filler\)}s, '... by name, if a server is asked',
    @show, $list->[0]{name}, '-d', $ctl->conninfo('london'));
my $records = $ctl->says(0, qr{^rmgr: }, 'diverged show --records', @show, '--records');
cmp_ok(scalar(() = $records =~ m{desc: INSERT}g), '>=', 8000, '... are pg_waldump\'s');
is(decode_json($ctl->says(0, qr{^\{}, 'diverged show --json', @show, '--json'))->{committed}, 1, '... says the same');
$ctl->says(1, qr{no diverged WAL called "nonsense".*HINT}s, 'a name that there is not', @show, 'nonsense');
my $kept = $list->[0]{directory};
my @segments = sort grep { !/history/ } glob "$kept/0*";
cmp_ok(scalar @segments, '>', 1, 'the range lies in several segments');
# pg_waldump would take the segment size from any file, also from one that was never written.
PgHaCluster::write_file("$kept/000000010000000000000000", "\0" x 2**20);
is(decode_json($ctl->says(0, qr{^\{}, 'an empty segment beside them', @show, '--json'))->{unreadable}, undef, '... does no harm');
unlink "$kept/000000010000000000000000";
rename $segments[-1], "$kept/away" or die $!;
$ctl->says(1, qr{records +[1-9].*not all of it can be read: the segment that contains \S+ of timeline 1 is missing.*^HINT}ms, 'the last segment is missing: the others are read', @show);
rename "$kept/away", $segments[-1] or die $!;
rename $segments[0], "$kept/away" or die $!;
$ctl->says(1, qr{not all of it can be read: the segment that contains \Q$list->[0]{from}\E of timeline 1 is missing.*^HINT}ms, 'the first one is missing', @show);
$ctl->says(1, qr{error: not all of it can be read.*^HINT}ms, '... with --records', @show, '--records');
rename "$kept/away", $segments[0] or die $!;
mkdir "$state/diverged/7-1" or die $!;
$ctl->says(0, qr{^NAME.*WARNING:  "\Q$state\E/diverged/7-1" is left out}s, 'a directory without a range is told of', 'diverged', 'list', '--state-directory', $state);
$ctl->says(1, qr{no diverged WAL called "7-1".*^HINT}ms, '... and cannot be shown', @show, '7-1');
PgHaCluster::write_file("$state/diverged/7-1/range.txt", "primary   rome, timeline 7\ntimeline  1\nfrom      0/100\nto        0/200\n");
$ctl->says(1, qr{7-1" contains no WAL.*^HINT}ms, 'an empty one', @show, '7-1');
unlink "$state/diverged/7-1/range.txt";
rmdir "$state/diverged/7-1" or die $!;
$ctl->says(1, qr{no diverged WAL called "\.\./diverged/.*^HINT}ms, 'a name is no path', @show, "../diverged/$list->[0]{name}");
$ctl->says(1, qr{state directory "/nowhere" does not exist.*^HINT}ms, 'no state directory', qw(diverged show --state-directory /nowhere));

# ---- the adopted backup is older than the failover, and follows -----------------------------------------------
$cluster->start('oslo');
streams('oslo');
is($cluster->sql('oslo', 'SHOW pg_ha.node_name'), 'oslo', 'the adopted backup is a member under its own name');
$cluster->stop('oslo');

# A backup from beyond the fork: london's, as it was before it was rewound, has WAL that the cluster has not.
my $label = do { local (@ARGV, $/) = "$oslo/backup_label.old"; <> };
for my $case (['a timeline that is newer', "START TIMELINE: 99", qr{newer than the cluster's}],
    ['another branch', "START TIMELINE: 1", qr{not part of the history}]) {
    my ($what, $timeline, $pattern) = @$case;
    (my $forged = $label) =~ s{^START TIMELINE: \d+}{$timeline}m;
    $forged =~ s{^START WAL LOCATION: \S+}{START WAL LOCATION: $list->[0]{to}}m;
    PgHaCluster::write_file("$oslo/backup_label", $forged);
    $ctl->comes_to_say(1, $pattern, "--restored: $what", @adopt);
}
unlink "$oslo/backup_label";

# ---- a configuration outside the data directory ------------------------------------------------------------------
my $turin = $cluster->node('turin');
my $etc = "$cluster->{dir}/etc";
mkdir $etc or die $!;
PgHaCluster::write_file("$etc/pg_hba.conf", "host all,replication all 127.0.0.1/32 trust\n");
my $peers = join ', ', map { "127.0.0.1:$cluster->{nodes}{$_}{peer_port}" } $cluster->names;
my %outside = (port => $turin->{port}, listen_addresses => '127.0.0.1', unix_socket_directories => '', fsync => 'off', data_directory => $turin->{data},
    hba_file => "$etc/pg_hba.conf", shared_preload_libraries => 'pg_ha', 'pg_ha.node_name' => 'turin', 'pg_ha.port' => $turin->{peer_port},
    'pg_ha.listen_addresses' => '127.0.0.1', 'pg_ha.advertise_address' => '127.0.0.1', 'pg_ha.peers' => $peers,
    'pg_ha.replication_conninfo' => 'user=postgres');
my @outside = ('clone', '-D', $turin->{data}, '--from', $all, '--no-sync', '--config-file', "$etc/postgresql.conf");
sub configure {
    my %settings = (%outside, @_);
    PgHaCluster::write_file("$etc/postgresql.conf", join '', map { "$_ = '$settings{$_}'\n" } sort keys %settings);
}
$ctl->comes_to_say(1, qr{does not exist}, 'no configuration file', @outside);
for my $case ([shared_preload_libraries => '', qr{does not load pg_ha}], [data_directory => '/elsewhere', qr{belongs to data directory "/elsewhere"}],
    [max_connections => 10, qr{max_connections of the new server is 10}], [wal_level => 'minimal', qr{wal_level of the new server is minimal}],
    ['pg_ha.node_name' => 'paris', qr{has a member "paris" already}], [port => $cluster->node('paris')->{port}, qr{where member "paris" is}]) {
    my ($name, $value, $pattern) = @$case;
    configure($name, $value);
    $ctl->comes_to_say(1, $pattern, "$name = '$value'", @outside);
}
ok(!-e $turin->{data}, '... and nothing was written');
configure();
$ctl->comes_to_say(0, qr{ready to join as "turin".*config_file=\Q$etc\E/postgresql\.conf}s, 'a clone with a configuration of its own', @outside);
$auto = do { local (@ARGV, $/) = "$turin->{data}/postgresql.auto.conf"; <> };
unlike($auto, qr{^(pg_ha\.|port|primary_)}m, 'nothing that stands there is written a second time');
$turin->{command} = ["$cluster->{bindir}/postgres", '-D', $turin->{data}, '-c', "config_file=$etc/postgresql.conf"];
$cluster->start('turin');
streams('turin');

# ---- no primary -------------------------------------------------------------------------------------------------
$cluster->power_off(qw(london paris));
$cluster->until_true(60, 'status says that there is no primary',
    sub { my ($status, $out) = $ctl->run('status', '-d', $all); $status == 2 && $out =~ /^no primary: .*does not hear a majority/s });
done_testing();
