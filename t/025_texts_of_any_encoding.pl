# SPDX-License-Identifier: PostgreSQL
#
# A reason quotes paths and messages of the system, whose encoding need not be the database's.  It must be a valid text all
# the same: an invalid one cannot be sent to a client, and would be stored.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(nodes => ['london']);
my $name = "st\xc3\x9fte";    # UTF-8, and no EUC_JP
my $long = "$cluster->{dir}/$name/" . ("\xc3\x9f" x 60);
$cluster->init('london');
$cluster->write_node_settings('london', 'pg_ha.state_directory' => "'$cluster->{dir}/$name'");
$cluster->start('london');
$cluster->sql('london', 'CREATE EXTENSION pg_ha');
$cluster->sql('london', q{CREATE DATABASE eucjp ENCODING 'EUC_JP' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'});

$ENV{PGCLIENTENCODING} = 'UTF8';
sub ask {
    my ($database, $query) = @_;
    my ($status, $out, $err) = PgHaCluster::run_command(30, "$cluster->{bindir}/psql", qw(-X -At -v ON_ERROR_STOP=1 -U postgres -h 127.0.0.1),
        '-p', $cluster->node('london')->{port}, '-d', $database, '-c', $query);
    return $status == 0 ? $out : "error: $err";
}
is(ask('eucjp', 'CREATE EXTENSION pg_ha'), "CREATE EXTENSION\n", 'a database of another encoding');

# A writable server with a cluster's secret and no state: the reason quotes the directory.
sub secret_without_state {
    $cluster->must_run('sh', '-c', "umask 077; { echo cluster $_[0]; echo secret $_[0]$_[0]; } > '" . $cluster->data('london') . "/pg_ha.secret'");
    $cluster->poll('london', 'SELECT reason FROM ha_cluster', qr/no valid state/, 'the reason quotes a directory');
}
secret_without_state('0123456789abcdef0123456789abcdef');
like(ask('postgres', 'SELECT reason FROM ha_cluster'), qr/"[^"]*\Q$name\E"/, 'valid characters are kept');
like(ask('eucjp', 'SELECT reason FROM ha_cluster'), qr/"[^"]*st\?+te"/, 'others are question marks');
like(ask('eucjp', 'SELECT ha_failover()'), qr/this server is no member/, 'in errors, too');

# Of two paths that differ by one byte, one is cut inside a character.
for my $more ('', 'x') {
    unlink $cluster->data('london') . '/pg_ha.secret' or die $!;
    $cluster->stop('london', 'fast');
    $cluster->write_node_settings('london', 'pg_ha.state_directory' => "'$long$more/" . ("\xc3\x9f" x 60) . "'");
    $cluster->start('london');
    secret_without_state('0123456789abcdef0123456789abcdef');
    my $reason = ask('postgres', 'SELECT reason FROM ha_cluster');
    chomp $reason;
    is(length $reason, 255, 'a long reason is cut');
    ok(utf8::decode($reason), 'but is a text') or diag $reason;
}
done_testing();
