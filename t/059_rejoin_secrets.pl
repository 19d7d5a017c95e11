# SPDX-License-Identifier: PostgreSQL
#
# pg_ha.replication_conninfo may hold a password.  Neither the log, nor the journal's text, which every member shows, nor a
# command line, which every user of the host can see, may tell it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(nodes => ['london']);
my ($dir, $bindir, $password) = ($cluster->{dir}, $cluster->{bindir}, "s3cr3t'\\ 100%");
$cluster->init('london');
$cluster->start('london');
my $identifier = $cluster->sql('london', 'SELECT system_identifier FROM pg_control_system()');

# A server's directories as far as a clone looks at them before it has a copy, and a pg_basebackup that notes how it is called.
mkdir $_ or die "$_: $!" for map { "$dir/$_" } qw(state data data/pg_wal bin);
PgHaCluster::write_file("$dir/bin/pg_basebackup", qq{#!/bin/sh\nprintf '%s\\n' "\$@" > $dir/arguments\nprintf %s "\$PGPASSWORD" > $dir/password\nexit 1\n});
chmod 0755, "$dir/bin/pg_basebackup" or die $!;
(my $quoted = $password) =~ s{(['\\])}{\\$1}g;
my $conninfo = "user=postgres password='$quoted' host=127.0.0.1 port=" . $cluster->node('london')->{port};
sub read_file { open my $in, '<', $_[0] or return ''; local $/; return <$in>; }

# What the helper says, and what it leaves.
sub clone {
    my ($system) = @_;
    chomp(my $format = `$bindir/pg_ha_rejoin --format`);
    (my $escaped = $conninfo) =~ s{%}{%25}g;
    PgHaCluster::write_file("$dir/state/rejoin", join "\n", "format $format", 'phase requested', "data_directory $dir/data",
        "program_directory $dir/bin", "system_identifier $system", 'clone a test', 'self 1', 'leader london', "conninfo $escaped",
        'term 1', 'timeline 1', 'own 1/0', 'fork 1/0', "candidate.london $escaped", 'end', '');
    my (undef, $out, $err) = PgHaCluster::run_command(60, "$bindir/pg_ha_rejoin", '--state-directory', "$dir/state");
    return $out . $err;
}

my $said = clone(1);
like($said, qr/another database system answers where london should be/, 'a server of another system is no source');
unlike($said, qr/s3cr3t/, 'the log does not tell the password');
unlike((grep { /^text/ } split /\n/, read_file("$dir/state/rejoin"))[0], qr/s3cr3t/, 'the text for the views does not tell it either');

$said = clone($identifier);
like($said, qr/pg_basebackup failed/, 'a copy was begun');
like(read_file("$dir/arguments"), qr/user='?postgres/, 'with the connection string');
like(read_file("$dir/arguments"), qr/keepalives_idle/, 'and a host that vanishes is noticed');
unlike(read_file("$dir/arguments"), qr/s3cr3t/, 'but not with the password on its command line');
is(read_file("$dir/password"), $password, 'which it has all the same');
done_testing();
