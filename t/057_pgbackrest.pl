# SPDX-License-Identifier: PostgreSQL
#
# A backup by pgBackRest, the program itself, restored with --type=standby: pg_hactl clone --restored makes a member of
# it, which fetches from the archive what no server has any more, then streams and votes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaCtl;
use Test::More;

plan(skip_all => 'needs the package pgbackrest') unless -x '/usr/bin/pgbackrest';

my $cluster = PgHaCluster->new(segment_mb => 1, settings => "wal_keep_size = 0\nmin_wal_size = 2MB\nmax_wal_size = 8MB\n");
my $ctl = PgHaCtl->new($cluster);
my $dir = $cluster->dir . '/pgbackrest';
mkdir $dir or die "$dir: $!";
my @repository = ('--stanza=main', "--repo1-path=$dir", "--log-path=$dir", "--lock-path=$dir", '--log-level-console=warn');
sub pgbackrest {
    my ($node, $command, @options) = @_;
    local $ENV{PGHOST} = $cluster->node($node)->{host};
    my @command = ('/usr/bin/pgbackrest', @repository, '--pg1-path=' . $cluster->data($node), @options, $command);
    my ($status, $out, $err) = PgHaCluster::run_command(120, @command);
    is($status, 0, "pgbackrest $command") or diag("@command\n$out$err");
}

$cluster->init('london');
my $push = join ' ', '/usr/bin/pgbackrest', @repository, '--pg1-path=' . $cluster->data('london'), 'archive-push', '%p';
$cluster->write_node_settings('london', archive_mode => 'on', archive_command => "'$push'");
$cluster->start('london');
$cluster->sql('london', $_) for 'CREATE EXTENSION pg_ha', 'SELECT ha_bootstrap()';
$cluster->poll('london', 'SELECT ha_is_primary()', 't', 'london is the primary of a cluster of one');
$cluster->sql('london', $_) for 'CREATE TABLE ledger (id bigint PRIMARY KEY, port int)', 'CREATE EXTENSION amcheck';
my $sql = '--pg1-port=' . $cluster->node('london')->{port};
pgbackrest('london', 'stanza-create', $sql, '--pg1-user=postgres');
pgbackrest('london', 'backup', $sql, '--pg1-user=postgres', '--start-fast');

# What follows the backup is in the archive alone.
my $begin = $cluster->sql('london', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$cluster->sql('london', 'INSERT INTO ledger SELECT -g, 0 FROM generate_series(1, 20000) g');
$cluster->until_true(60, "london has removed segment $begin", sub {
    $cluster->sql('london', $_) for 'SELECT pg_switch_wal()', 'INSERT INTO ledger SELECT min(id) - 1, 0 FROM ledger', 'CHECKPOINT';
    return $cluster->sql('london', "SELECT count(*) FROM pg_ls_waldir() WHERE name = '$begin'") eq '0';
});

$cluster->clone('paris', 'london');
$cluster->start('paris');
$cluster->wait_standby_of('paris', 'london');
pgbackrest('rome', 'restore', '--type=standby');
$ctl->comes_to_say(0, qr{ready to join as "rome"}, 'the restored backup is adopted', 'clone', '--restored', '-D', $cluster->data('rome'),
    '--from', $ctl->conninfo('london'), $ctl->own_settings('rome'));
my $log = $cluster->log_size('rome');
$cluster->start('rome');
$cluster->wait_home('rome');
my $primary = $cluster->wait_whole;
like($cluster->log_text('rome', $log), qr{restored log file "$begin" from archive}, 'it has fetched WAL from the archive');
$cluster->compare_data($primary, [ $cluster->names ], 'ledger');
done_testing();
