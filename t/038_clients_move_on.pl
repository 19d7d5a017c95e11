# SPDX-License-Identifier: PostgreSQL
#
# Applications that know nothing of pg_ha but the addresses of all servers go on after each failover, as libpq and
# psycopg do it (several hosts, target_session_attrs) and as the JDBC driver does it (host after host, and
# "show transaction_read_only" on each).  All they do by themselves is to connect again after an error.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

plan(skip_all => 'needs python3-psycopg2')
    if system('/usr/bin/python3 -c "import psycopg2" 2>/dev/null') != 0;

# A line per attempt: "ok ID PORT", or "error SQLSTATE", or "error -" where the connection was what failed.
my $application = <<'END';
import psycopg2, sys, time
kind, ports, number = sys.argv[1], sys.argv[2].split(','), int(sys.argv[3])
common = 'user=app dbname=postgres connect_timeout=2'

def by_libpq():
    hosts = ','.join(['127.0.0.1'] * len(ports))
    return psycopg2.connect(f"host={hosts} port={','.join(ports)} target_session_attrs=read-write {common}")

def by_jdbc():
    for port in ports:
        try:
            connection = psycopg2.connect(f'host=127.0.0.1 port={port} {common}')
            with connection.cursor() as cursor:
                cursor.execute('show transaction_read_only')
                if cursor.fetchone()[0] == 'off':
                    connection.rollback()
                    return connection
            connection.close()
        except psycopg2.Error:
            pass
    raise psycopg2.OperationalError('no host takes writes')

connection = None
while True:
    try:
        if connection is None:
            connection = (by_libpq if kind == 'libpq' else by_jdbc)()
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

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '1s'\npg_ha.fence_wait = '500ms'\n");
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE ROLE app LOGIN', 'GRANT ALL ON ledger TO app';
PgHaCluster::write_file($cluster->dir . '/application.py', $application);
my $ports = join ',', map { $cluster->node($_)->{port} } $cluster->names;
my %client = (libpq => 1_000_000, jdbc => 2_000_000);
my %pid;

sub Client::pid { return $_[0]{pid}; }

sub start_client {
    my ($kind) = @_;
    $pid{$kind} = fork() // die "fork: $!";
    return push @{ $cluster->{helpers} }, bless({ pid => $pid{$kind} }, 'Client') if $pid{$kind};
    open STDOUT, '>', $cluster->dir . "/$kind.out";
    open STDERR, '>', $cluster->dir . "/$kind.err";
    exec '/usr/bin/python3', $cluster->dir . '/application.py', $kind, $ports, $client{$kind} or POSIX::_exit(127);
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
