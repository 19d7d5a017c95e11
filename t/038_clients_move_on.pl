# SPDX-License-Identifier: PostgreSQL
#
# Applications that know nothing of pg_ha but the addresses of all servers go on after each failover: psycopg, which
# is libpq (several hosts, target_session_attrs), and pgjdbc.  All they do by themselves is to connect again after an
# error.  Without Java or pgjdbc that half is left out, and says so.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

plan(skip_all => 'needs python3-psycopg2')
    if system('/usr/bin/python3 -c "import psycopg2" 2>/dev/null') != 0;

# A line per attempt: "ok ID PORT", or "error SQLSTATE", or "error -" where the connection was what failed.
my $psycopg = <<'END';
import psycopg2, sys, time
ports, number = sys.argv[1].split(','), int(sys.argv[2])
hosts = ','.join(['127.0.0.1'] * len(ports))
servers = f"host={hosts} port={','.join(ports)} user=app dbname=postgres"
connection = None
while True:
    try:
        if connection is None:
            connection = psycopg2.connect(f'{servers} target_session_attrs=read-write connect_timeout=2')
            connection.autocommit = True
        number += 1
        with connection.cursor() as cursor:
            cursor.execute('INSERT INTO ledger VALUES (%s, 0)', (number,))
        print('ok', number, connection.info.port, flush=True)
    except psycopg2.Error as error:
        print('error', error.pgcode or '-', flush=True)
        if connection is not None:
            connection.close()
        connection = None
    time.sleep(0.02)
END
my $application = "$FindBin::Bin/../test/clients/JdbcApplication.java";
my $pgjdbc = '/usr/share/java/postgresql.jar';

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '500ms'\n");
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE ROLE app LOGIN', 'GRANT ALL ON ledger TO app';
PgHaCluster::write_file($cluster->dir . '/application.py', $psycopg);
my $ports = join ',', map { $cluster->node($_)->{port} } $cluster->names;
my %client = (psycopg => [ '/usr/bin/python3', $cluster->dir . '/application.py', $ports, 1_000_000 ]);
my %pid;

SKIP: {
    skip('there is no java', 1) if system('java -version 2>/dev/null') != 0;
    skip('there is no pgjdbc', 1) unless -e $pgjdbc;
    my (undef, undef, $error) = PgHaCluster::run_command(120, 'javac', '-d', $cluster->dir, $application);
    ok(-e $cluster->dir . '/JdbcApplication.class', 'the application on pgjdbc is compiled') or diag($error);
    $client{pgjdbc} = [ 'java', '-cp', "$pgjdbc:" . $cluster->dir, 'JdbcApplication', $ports, 2_000_000 ];
}

sub Client::pid { return $_[0]{pid}; }

sub start_client {
    my ($kind) = @_;
    $pid{$kind} = fork() // die "fork: $!";
    return push @{ $cluster->{helpers} }, bless({ pid => $pid{$kind} }, 'Client') if $pid{$kind};
    open STDOUT, '>', $cluster->dir . "/$kind.out";
    open STDERR, '>', $cluster->dir . "/$kind.err";
    exec @{ $client{$kind} } or POSIX::_exit(127);
}
sub lines {
    my ($kind, $pattern) = @_;
    open my $in, '<', $cluster->dir . "/$kind.out" or return;
    return grep { /\n$/ && $_ =~ $pattern } <$in>;
}
sub writes_on {
    my ($kind, $node, $what) = @_;
    my $port = $cluster->node($node)->{port};
    my $count = sub { scalar(my @written = lines($kind, qr/^ok \d+ $port$/)) };
    my $before = $count->();
    $cluster->until_true(60, "$kind: $what", sub { $count->() > $before + 20 });
    pass("$kind: $what");
}

start_client($_) for sort keys %client;
writes_on($_, 'london', 'writes to the first primary') for sort keys %client;

$cluster->kill_everything('london');
my $second = $cluster->wait_primary(qw(paris rome));
writes_on($_, $second, 'goes on after a kill') for sort keys %client;
$cluster->start('london');
$cluster->bring_back('london', $second);
$cluster->wait_ready($second);

$cluster->freeze($second);
my $third = $cluster->wait_primary(grep { $_ ne $second } $cluster->names);
$cluster->thaw($second);
writes_on($_, $third, 'goes on after a frozen primary has come back') for sort keys %client;
$cluster->bring_back($second, $third);
$cluster->wait_ready($third);

$cluster->stop($third);
my $last = $cluster->wait_primary(grep { $_ ne $third } $cluster->names);
writes_on($_, $last, 'goes on after a clean stop') for sort keys %client;

for my $kind (sort keys %client) {
    kill 'TERM', $pid{$kind};
    waitpid $pid{$kind}, 0;
    my %seen = map { /^error (\S+)/ ? ($1 => 1) : () } lines($kind, qr/^error/);
    # 25006 fenced, HA006 not settled, 57P01 to 57P03 on the way down or up.
    my @strange = grep { !/^(?:-|25006|HA006|57P0[123])$/ } sort keys %seen;
    is_deeply(\@strange, [], "$kind: has seen only what a client expects (@{[ sort keys %seen ]})");
    my @ids = map { /^ok (\d+)/ } lines($kind, qr/^ok/);
    my $list = join ',', @ids;
    my $missing = $cluster->sql($last, "SELECT count(*) FROM unnest('{$list}'::bigint[]) AS id WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.id = id.id)");
    is($missing, 0, "$kind: all of its " . @ids . ' rows are there');
}
done_testing();
