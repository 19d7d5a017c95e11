# SPDX-License-Identifier: PostgreSQL
#
# What may stand in the way of a rejoin: pg_hba.conf, a wrong password, missing rights, no room, a place where no tablespace can
# be made.  Each is named, nothing is half done, and it goes on by itself when the obstacle is gone.  The role has the rights
# of README's GRANT and no more; there is a tablespace, at another place on each server; and the data
# directory of the old primary is a mount point, where root may make one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaMounts;
use PgHaCluster;
use PgHaScenes;
use Test::More;

package Mounted {
    our @ISA = ('PgHaCluster');
    sub before_root_is_dropped {
        my ($self) = @_;
        return unless PgHaMounts::possible();
        PgHaMounts::small_file_system("$self->{dir}/london", '700m');
        PgHaMounts::small_file_system("$self->{dir}/state", '400m');
    }
}

my $cluster = Mounted->new(limit => 900, settings => "pg_ha.replication_conninfo = 'user=replicator'\n");
my ($dir, $mounted) = ($cluster->{dir}, PgHaMounts::possible());
sub put_file { my ($path, $text) = @_; open my $out, '>', $path or die "$path: $!"; print $out $text; close $out; }

$ENV{PGPASSFILE} = "$dir/pgpass";
sub password { put_file("$dir/pgpass", "*:*:*:replicator:$_[0]\n"); chmod 0600, "$dir/pgpass"; }
# Who of the role may come: to `postgres` for pg_rewind, to `replication` for WAL and clones.
sub let_in {
    my ($name, %method) = @_;
    put_file($cluster->data($name) . '/pg_hba.conf', join '', (map { "host $_ replicator 127.0.0.1/32 $method{$_}\n" } sort keys %method),
        "host all postgres 127.0.0.1/32 trust\nhost replication postgres 127.0.0.1/32 trust\n");
    $cluster->sql($name, 'SELECT pg_reload_conf()');
}
my %all = (postgres => 'scram-sha-256', replication => 'scram-sha-256');

password('right');
my %state = $mounted ? ('pg_ha.state_directory' => "'$dir/state/pg_ha'") : ();
my $state = $mounted ? "$dir/state/pg_ha" : $cluster->state_directory('london');
$cluster->init('london');
$cluster->write_node_settings('london', %state);
$cluster->start('london');
let_in('london', %all);
$cluster->sql('london', "SET password_encryption = 'scram-sha-256'; CREATE ROLE replicator REPLICATION LOGIN PASSWORD 'right'");
my ($grant) = do { local (@ARGV, $/) = "$FindBin::Bin/../README.md"; <> =~ m{-c "(GRANT EXECUTE ON FUNCTION .*? TO replicator)"}s };
ok($grant, 'README has a GRANT');
$cluster->sql('london', $grant);
mkdir "$dir/space-$_" for $cluster->names;
$cluster->sql('london', "CREATE TABLESPACE elsewhere LOCATION '$dir/space-london'");
$cluster->sql('london', 'CREATE EXTENSION pg_ha');
$cluster->sql('london', 'SELECT ha_bootstrap()');
$cluster->poll('london', 'SELECT ha_is_primary()', 't', 'the first node is the primary of a cluster of one');
$cluster->sql('london', $_) for 'CREATE TABLE ledger (id bigint PRIMARY KEY, port int)', 'CREATE EXTENSION amcheck',
    'CREATE TABLE filler (id int PRIMARY KEY, text text) TABLESPACE elsewhere',
    'INSERT INTO filler SELECT n, repeat(\'x\', 100) FROM generate_series(1, 20000) n';
for my $name (qw(paris rome)) {
    $cluster->must_run("$cluster->{bindir}/pg_basebackup", '-D', $cluster->data($name), '-h', '127.0.0.1', '-p', $cluster->node('london')->{port},
        "--tablespace-mapping=$dir/space-london=$dir/space-$name", qw(-U replicator -c fast --no-sync));
    $cluster->write_node_settings($name);
    $cluster->start($name);
}
$cluster->wait_ready('london');

# Answers the primary.
sub came_home {
    my ($old) = @_;
    my $new = $cluster->wait_home($old);
    $cluster->stop_writer;
    $cluster->compare_data($new, [ $old, $new ], qw(ledger filler));
    $cluster->verify_ledger($old);
    return $cluster->wait_whole(120);
}

# Said once more since the obstacle was put there; the server is as it was, and an administrator may look.
my $log;
sub refused {
    my ($name, $pattern, $what) = @_;
    $cluster->wait_log($name, qr{not rewound, as it was: [^\n]*$pattern}, $what, $log, 120);
    $cluster->poll($name, 'SELECT pg_is_in_recovery()', 't', 'it is a standby that can be looked at');
    my $data = $cluster->data($name);
    is(join(' ', grep { -e "$data/$_" } qw(pg_ha.rejoin pg_ha.clone pg_ha.old)), '', 'nothing is left half done');
    $log = $cluster->log_size($name);
}

# The pause between attempts grows; a restart has it tried at once.
sub again { $cluster->stop('london'); $cluster->start('london'); }

# -- the primary lets nobody in; then the password is wrong; then there is no room
my $new = die_diverged($cluster, 'london', 5000);
$cluster->sql($new, 'SELECT ha_pause()');    # its files are changed now, and its rights: it stays the primary
let_in($new, postgres => 'reject', replication => 'reject');
$log = $cluster->log_size('london');
$cluster->start('london');
refused('london', 'pg_hba.conf rejects connection', 'refused by pg_hba.conf: it says so');
refused('london', 'pg_hba.conf rejects connection', 'and tries again');
password('wrong');
let_in($new, %all);
again();
refused('london', 'password authentication failed', 'with a wrong password it says so');
SKIP: {
    skip 'only root can mount a small file system', 3 unless $mounted;
    $cluster->must_run('fallocate', '-l', '350M', "$dir/state/ballast");
    password('right');
    again();
    refused('london', 'no room to keep the diverged WAL: \d+ MB needed in', 'without room for the diverged WAL it says so');
    password('wrong');
    unlink "$dir/state/ballast";
}

# -- a right is missing: it clones itself; but there is no room, then no place for the tablespace
$cluster->sql($new, $grant =~ s/^GRANT/REVOKE/r =~ s/ TO / FROM /r);
my $inode = (stat $cluster->data('london'))[1];
SKIP: {
    skip 'only root can mount a small file system', 3 unless $mounted;
    $cluster->must_run('fallocate', '-l', '450M', $cluster->data('london') . '/ballast');
    password('right');
    again();
    refused('london', 'no room for a second copy: \d+ MB needed in', 'without room for a clone it says so');
    password('wrong');
    unlink $cluster->data('london') . '/ballast';
}
chmod 0555, $dir;
password('right');
again();
refused('london', 'pg_basebackup failed: (?s:.{0,300})could not create directory', 'without a place for the tablespace it says so');
chmod 0755, $dir;
again();
$cluster->sql($new, 'SELECT ha_resume()');
came_home('london');
like($cluster->log_text('london', $log), qr{cloning anew: role "replicator" of pg_ha.replication_conninfo may not execute pg_ls_dir},
    'it says why it is cloned');
is((stat $cluster->data('london'))[1], $inode, 'the data directory is where it was, mounted or not');
like(readlink((glob $cluster->data('london') . '/pg_tblspc/*')[0]), qr{^\Q$dir/space-$new.pg_ha-\E\d+$}, 'the tablespace has a place beside');
is(join(' ', glob "$dir/space-london/PG_*"), '', 'and nothing is left at the old one');
is(join(' ', grep { -e $cluster->data('london') . "/$_" } qw(pg_ha.rejoin pg_ha.clone pg_ha.old)), '', 'nor in the data directory');
is(scalar(() = glob "$state/diverged/*"), 1, 'its WAL was set aside once, however often it was tried');

# -- with README's rights, and no more, the next old primary is rewound, tablespace included
my $old = $cluster->wait_whole;
$cluster->sql($old, $grant);
die_diverged($cluster, $old, 5000);
$log = $cluster->log_size($old);
my $space = readlink((glob $cluster->data($old) . '/pg_tblspc/*')[0]);
$cluster->start($old);
came_home($old);
my $text = $cluster->log_text($old, $log);
like($text, qr{pg_ha_rejoin: done: rewound to }, 'the role with the rights of README can be rewound with');
unlike($text, qr{cloning anew}, 'and need not clone');
is(readlink((glob $cluster->data($old) . '/pg_tblspc/*')[0]), $space, 'the tablespace is where it was');
done_testing();
