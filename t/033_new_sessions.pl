# SPDX-License-Identifier: PostgreSQL
#
# Who is let in, and where: applications are sent on with 57P03 by a server that is of no use to them, and find
# the one that is by their list of hosts; standbys can be read whatever happens to the rest.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaSession;
use Test::More;
use Time::HiRes qw(time);

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '300ms'\n");
$cluster->start_all;
$cluster->sql('london', $_) for
    'CREATE ROLE app LOGIN', 'GRANT ALL ON ledger TO app', 'CREATE ROLE probe LOGIN IN ROLE pg_monitor',
    'CREATE ROLE copier LOGIN REPLICATION';
my %port = map { $_ => $cluster->node($_)->{port} } $cluster->names;

# (status, answer, error text); hosts in this order.
sub connect_to {
    my ($nodes, $options, $query) = @_;
    my $ports = join ',', map { $port{$_} } @$nodes;
    my $hosts = join ',', map { '127.0.0.1' } @$nodes;
    my ($status, $out, $err) = PgHaCluster::run_command(30, "$cluster->{bindir}/psql", qw(-XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -d),
        "host=$hosts port=$ports dbname=postgres $options", '-c', $query // "SELECT current_setting('port')");
    chomp $out;
    return ($status, $out, $err);
}
# psql does not show the SQLSTATE of a failed connection; the text is that of one place only.
sub turned_away {
    my ($node, $pattern, $what) = @_;
    my ($status, undef, $error) = connect_to([$node], 'user=app');
    ok($status != 0 && $error =~ /FATAL:  sessions are not accepted now/ && $error =~ $pattern, $what) or diag("status $status: $error");
}
sub let_in {
    my ($node, $options, $what, $query) = @_;
    my ($status, $out, $error) = connect_to([$node], $options, $query);
    ok($status == 0, $what) or diag($error);
    return $out;
}
sub lands_on {
    my ($nodes, $options, $expected, $what) = @_;
    my ($status, $out, $error) = connect_to($nodes, "user=app $options");
    is($out, $port{$expected}, $what) or diag("status $status: $error");
}

let_in($_, 'user=app', "an application is let in by $_") for $cluster->names;
my $open = PgHaSession->new($cluster, "port=$port{london} user=app");
is($open->ask('SELECT count(*) FROM ledger'), '0', 'an application has a session on london');

# A primary without a majority.
my $waiting = PgHaSession->new($cluster, "port=$port{london} user=app");
$waiting->ask(q{SET pg_ha.fence_wait = '60s'});
$cluster->freeze($_) for qw(paris rome);
$waiting->begin('INSERT INTO ledger VALUES (1, 0)');
$cluster->poll('london', 'SELECT ha_is_primary()', 'f', 'the lease of london has ended');
turned_away('london', qr/lease of this primary has ended.*HINT:  No other primary is known/s, 'london turns applications away');
let_in('london', 'user=postgres', 'it lets superusers in');
let_in('london', 'user=probe', 'and members of pg_monitor', 'SELECT count(*) FROM ha_cluster');
let_in('london', 'user=copier replication=true', 'and replication', 'IDENTIFY_SYSTEM');
is($open->ask('SELECT count(*) FROM ledger'), '0', 'an open session goes on reading');
like($open->ask('INSERT INTO ledger VALUES (2, 0)'), qr/ERROR:  25006.*HINT:  No other primary is known/s, 'and is told why it cannot write');
$cluster->thaw($_) for qw(paris rome);
$cluster->poll('london', 'SELECT ha_is_primary()', 't', 'the majority is back in the same term');
is($waiting->answer, '', 'a commit that was under way is answered after all');
is($open->ask('INSERT INTO ledger VALUES (2, 0)'), '', 'and the other session writes on');
let_in('london', 'user=app', 'london lets applications in again');

# A deposed primary that cannot become a standby.
my $obstacle = $cluster->data('london') . '/standby.signal';
mkdir $obstacle or die "mkdir $obstacle: $!";
$cluster->freeze('london');
my $new = $cluster->wait_primary(qw(paris rome));
$cluster->thaw('london');
$cluster->poll('london', "SELECT role, primary_name FROM ha_cluster", "deposed|$new", 'london is deposed');
turned_away('london', qr/not the primary of its cluster.*HINT:  Connect to $new at 127\.0\.0\.1:$port{$new}\./s, 'it names the primary');
my $error = ($cluster->try_sql('london', 'INSERT INTO ledger VALUES (3, 0)'))[2];
like($error, qr/ERROR:  25006.*HINT:  Connect to $new at 127\.0\.0\.1:$port{$new}\./s, 'to those who write as well');
lands_on([ 'london', $new ], '', $new, 'libpq goes on to the next host');
lands_on([ 'london', $new ], 'target_session_attrs=read-write', $new, 'also when it wants to write');
my ($other) = grep { $_ ne $new } qw(paris rome);
lands_on([ 'london', $other, $new ], 'target_session_attrs=primary', $new, 'and past a standby');
SKIP: {
    skip('there is no python3-psycopg2', 1) if system('/usr/bin/python3 -c "import psycopg2" 2>/dev/null') != 0;
    my $python = "import psycopg2; print(psycopg2.connect('host=127.0.0.1,127.0.0.1 port=$port{london},$port{$new} user=app dbname=postgres').info.port)";
    my (undef, $out, $text) = PgHaCluster::run_command(30, '/usr/bin/python3', '-c', $python);
    is($out, "$port{$new}\n", 'so does psycopg') or diag($text);
}
rmdir $obstacle or die "rmdir $obstacle: $!";
$cluster->wait_standby_of('london', $new); # its WAL has been compared
is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'london becomes a standby');
let_in('london', 'user=app', 'and lets applications read');

# A server that is being promoted, held up on its way.
my %startup = map { $_ => $cluster->process($_, 'startup') } 'london', $other;
kill 'STOP', values %startup;
$cluster->kill_everything($new);
my $winner;
$cluster->until_true(60, 'one of the rest is being promoted', sub {
    ($winner) = grep { ($cluster->try_sql($_, 'SELECT role FROM ha_cluster'))[1] eq 'promoting' } keys %startup;
});
turned_away($winner, qr/has been elected and is not open for writes yet/, "$winner turns applications away during its promotion");
kill 'CONT', values %startup;
$cluster->wait_primary($winner);
let_in($winner, 'user=app', 'and lets them in afterwards');

# A standby alone.
my ($survivor) = grep { $_ ne $winner } 'london', $other;
$cluster->kill_everything($winner);
$cluster->poll($survivor, 'SELECT quorum FROM ha_cluster', 'f', "$survivor is alone");
is(let_in($survivor, 'user=app', 'applications may read there', 'SELECT count(*) FROM ledger WHERE id IN (1, 2)'), '2', 'what was acknowledged');
done_testing();
