# SPDX-License-Identifier: PostgreSQL
#
# Tablespaces that only one side of a fork has made: the old primary comes home by a rewind, and what only it had is gone.
# Where no directory can be made for one, it says so and stays a standby until there is a place; a clone looks first
# whether there is room, in the tablespaces' file systems too.  Every server sees a place of its own under the same path.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaMounts;
use PgHaNetwork;
use PgHaCtl;
use Test::More;

package Places {
    our @ISA = ('PgHaNetwork');
    sub make_network {
        my ($self) = @_;
        mkdir "$self->{dir}/$_" or die "$self->{dir}/$_: $!\n" for qw(space places);
        chown +(getpwnam 'postgres')[2, 3], "$self->{dir}/places";
        PgHaMounts::small_file_system("$self->{dir}/places/$_", '200m') for $self->names, 'tiny';
    }
    sub host_of { return '127.0.0.1'; }
    sub init { my ($self, $name) = @_; return PgHaCluster::init($self, $name); }
    sub spawn {
        my ($self, $node) = @_;
        return $self->spawn_as_root($node, qw(unshare --mount --propagation private sh -c), 'mount --bind "$1" "$2"; shift 2; exec "$@"',
            'sh', "$self->{dir}/places/$node->{name}", "$self->{dir}/space", @PgHaNetwork::as_postgres, $self->server_command($node));
    }
}

plan(skip_all => 'only root can mount file systems') unless PgHaMounts::possible();
my $cluster = Places->new(limit => 900, settings => "pg_ha.replication_conninfo = 'user=replicator'\npg_ha.lease_duration = '10s'\npg_ha.min_sync_standbys = 1\n");
my $dir = $cluster->{dir};
sub make_place { my ($place, @names) = @_; mkdir "$dir/places/$_/$place" or die "$place of $_: $!" for @names; }
sub others { my ($left_out) = @_; return grep { $_ ne $left_out } $cluster->names; }

# Several statements in one session, each by itself.
sub in_turn {
    my ($name, @statements) = @_;
    my $node = $cluster->node($name);
    $cluster->must_run("$cluster->{bindir}/psql", qw(-XAtq -v ON_ERROR_STOP=1 -h 127.0.0.1 -p), $node->{port}, qw(-U postgres -d postgres),
        map { ('-c', $_) } @statements);
}

sub table_in {
    my ($place) = @_;
    return ("CREATE TABLESPACE $place LOCATION '$dir/space/$place'", "CREATE TABLE in_$place (id int, text text) TABLESPACE $place",
        "INSERT INTO in_$place SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n",
        "ALTER TABLE in_$place ADD PRIMARY KEY (id) USING INDEX TABLESPACE $place");
}

my ($grant) = do { local (@ARGV, $/) = "$FindBin::Bin/../README.md"; <> =~ m{-c "(GRANT EXECUTE ON FUNCTION .*? TO replicator)"}s };
$cluster->start_first;
$cluster->sql('london', $_) for 'CREATE ROLE replicator REPLICATION LOGIN', $grant, 'CREATE EXTENSION amcheck',
    'CREATE TABLE filler (id int PRIMARY KEY, text text)';
for my $name (qw(paris rome)) {
    $cluster->clone($name, 'london');
    $cluster->start($name);
}
$cluster->wait_ready('london');
make_place('common', $cluster->names);
in_turn('london', table_in('common'), "INSERT INTO in_common SELECT -n, repeat('x', 1000) FROM generate_series(1, 40000) n",
    "INSERT INTO filler SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n");

# The primary dies with WAL that nobody else has; the others change the same pages.  `alone`: what only it does before;
# `meanwhile`: what only the next primary does, which is returned; `behind`: who lacks the last commits.
sub fall {
    my ($old, $alone, $meanwhile, $behind) = @_;
    $cluster->start_writer;
    $cluster->wait_writes(100, "on $old");
    if ($behind) {
        $cluster->hold_stream($old, $behind);
        $cluster->wait_writes(100, "that $behind does not get");
    }
    $cluster->diverge($old, 3000);
    in_turn($old, 'SET synchronous_commit = local', @$alone) if @$alone;
    $cluster->kill_everything($old);
    my $new = $cluster->wait_primary(others($old));
    $cluster->wait_writes(100, "on $new");
    $cluster->stop_writer;
    in_turn($new, 'UPDATE filler SET text = \'y\' WHERE id % 3 = 0', @$meanwhile);
    return $new;
}

sub came_home {
    my ($old, $new, @tables) = @_;
    $cluster->wait_standby_of($old, $new, 120);
    $cluster->wait_ready($new, 120);
    $cluster->compare_data($new, [ $cluster->names ], qw(ledger filler in_common), @tables);
    $cluster->verify_ledger($old);
    is(join(' ', grep { -e $cluster->data($old) . "/$_" } qw(pg_ha.rejoin pg_ha.clone pg_ha.old)), '', "nothing is left half done on $old");
}
sub links { return scalar(() = glob $cluster->data($_[0]) . '/pg_tblspc/*'); }

# Once more since the obstacle was there: it says so, and can be looked at.
my $log;
sub refused {
    my ($name, $pattern, $what) = @_;
    $cluster->wait_log($name, qr{not rewound, as it was: [^\n]*$pattern}, $what, $log, 120);
    $cluster->poll($name, 'SELECT pg_is_in_recovery()', 't', 'it is a standby that can be looked at');
    is($cluster->sql($name, 'SELECT count(*) FROM in_common'), 45000, '... its tablespaces too');
    $log = $cluster->log_size($name);
}

# -- one tablespace is made on each side of the fork
make_place('before', 'london');
make_place('after', qw(paris rome));
my $new = fall('london', [ table_in('before') ], [ table_in('after') ]);
$log = $cluster->log_size('london');
$cluster->start('london');
came_home('london', $new, 'in_after');
like($cluster->log_text('london', $log), qr{creating the directory of a tablespace, \Q$dir/space/after\E\n.*done: rewound to $new}s, 'it was rewound');
is(links('london'), 2, 'the tablespace that only it had is gone');
is(join(' ', glob "$dir/places/london/before/*"), '', 'so are its files');

# -- there is no place for the new one
my $old = $new;
make_place('deep', others($old));
make_place('deep/after', others($old));
$new = fall($old, [], [ map { s{'(.*)/space/deeper'}{'$1/space/deep/after'}r } table_in('deeper') ]);
$log = $cluster->log_size($old);
$cluster->start($old);
refused($old, qr{could not create directory "\Q$dir/space/deep/after\E"}, 'without a place for the new tablespace it says so');
make_place('deep', $old);
$cluster->stop($old);
$cluster->start($old);
came_home($old, $new, qw(in_after in_deeper));

# -- made while a standby was away which has not diverged: PostgreSQL itself asks for the directory
my ($away) = others($new);
$cluster->stop($away);
make_place('later', others($away));
in_turn($new, table_in('later'));
$log = $cluster->log_size($away);
$cluster->launch($away);
$cluster->until_true(60, "$away ends", sub { !PgHaCluster::is_running($cluster->postmaster($away)) });
like($cluster->log_text($away, $log), qr{directory "\Q$dir/space/later\E" does not exist.*Create this directory}s, 'what is missing is said');
make_place('later', $away);
$cluster->start($away);
came_home($away, $new, qw(in_after in_deeper in_later));

# -- without rights it has to clone itself, and there is no room for the tablespaces
$cluster->sql($new, $grant =~ s/^GRANT/REVOKE/r =~ s/ TO / FROM /r);
$old = $new;
$new = fall($old, [], []);
my $ballast = "$dir/places/$old/ballast";
my (undef, $free) = $cluster->must_run('df', '--output=avail', '-B1M', "$dir/places/$old") =~ /(\w+)\s+(\d+)/;
$cluster->must_run('fallocate', '-l', ($free - 30) . 'M', $ballast);
$log = $cluster->log_size($old);
$cluster->start($old);
refused($old, qr{no room for a second copy: \d+ MB needed in "\Q$dir/space\E", (?:29|30) MB free}, 'without room for tablespaces it says so');
is(join(' ', glob "$dir/places/$old/*.pg_ha-*"), '', 'and makes none');

# -- nor does pg_hactl clone begin
my $ctl = PgHaCtl->new($cluster);
$cluster->must_run('fallocate', '-l', '170M', "$dir/places/tiny/ballast");
my @mapping = map { ('-T', "$dir/space/$_=$dir/places/" . ($_ eq 'common' ? 'tiny' : $old) . "/of_oslo/$_") } qw(common after deep/after later);
$ctl->says(1, qr{not enough space in "\Q$dir/places/tiny\E": .* needed, .* free.*HINT}s, 'pg_hactl clone sees that a tablespace is too big',
    'clone', '--check', '-D', "$dir/oslo", '--from', $ctl->conninfo($new), '--node-name', 'oslo', '--port', '1', '--peer-port', '2', @mapping);
unlink $ballast;
$cluster->stop($old);
$cluster->start($old);
came_home($old, $new, qw(in_after in_deeper in_later));
like($cluster->log_text($old, $log), qr{cloning anew: role "replicator"}, 'it was cloned');
is(scalar(() = glob "$dir/places/$old/{,deep/}*.pg_ha-*"), 4, 'each tablespace beside the place of the old one');
is(join(' ', glob "$dir/places/$old/{common,after,later,deep/after}/*"), '', 'where nothing is left');

# -- who is rewound to a clone keeps its own places, and makes none where the clone has its
$cluster->sql($new, $grant);
my ($third) = grep { $_ ne $old } others($new);
$cluster->write_node_settings($third, 'pg_ha.failover_priority' => 0);
kill 'HUP', $cluster->postmaster($third);
$cluster->poll($new, "SELECT priority FROM ha_members WHERE name = '$third'", 0, "$third is not to be elected");
is(fall($new, [], [], $third), $old, 'the clone is elected');
$log = $cluster->log_size($new);
$cluster->start($new);
came_home($new, $old, qw(in_after in_deeper in_later));
like($cluster->log_text($new, $log), qr{pg_ha_rejoin: done: rewound to $old}, "$new was rewound");
is(join(' ', glob "$dir/places/$new/{,deep/}*.pg_ha-*"), '', 'nothing was made for tablespaces that it has elsewhere');
done_testing();
