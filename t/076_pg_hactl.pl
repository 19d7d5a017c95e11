# SPDX-License-Identifier: PostgreSQL
#
# pg_hactl clone: everything is checked before anything is written; what it makes joins and votes; an
# interrupted clone cannot be opened, and the next run removes it and nothing else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaCtl;
use POSIX ();
use Test::More;

# A small file system for the copy that does not fit, seen by this test alone.
my $small = $> == 0 && eval {
    my %unshare = (x86_64 => 272, aarch64 => 97);
    my $call = $unshare{ (POSIX::uname())[4] } // die;
    syscall($call, 0x20000) == 0 or die;    # CLONE_NEWNS
    system('mount --make-rprivate / && mount -t tmpfs -o size=40m,mode=0777 tmpfs /mnt') == 0;
};

my $cluster = PgHaCluster->new(limit => 420);
my $ctl = PgHaCtl->new($cluster);
$cluster->start_first;
$cluster->sql('london', 'CREATE TABLE filler (id int, text text)');
$cluster->sql('london', "INSERT INTO filler SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n");
mkdir "$cluster->{dir}/space-london" or die $!;
$cluster->sql('london', "CREATE TABLESPACE outside LOCATION '$cluster->{dir}/space-london'");
$cluster->sql('london', 'CREATE TABLE apart (id int) TABLESPACE outside; INSERT INTO apart VALUES (42)');
my $london = $ctl->conninfo('london');

# ---- refusals, each before anything is written ----------------------------------------------------------
sub mapping { return ('-T', "$cluster->{dir}/space-$_[0]=$cluster->{dir}/space-$_[1]"); }
sub refuses {
    my ($status, $pattern, $what, $name, $from, @arguments) = @_;
    $ctl->says($status, $pattern, $what, $ctl->clone($name, $from, @arguments));
    ok(!-e $cluster->data($name), '... and nothing was written');
}

$cluster->sql('london', "CREATE ROLE replicator REPLICATION LOGIN PASSWORD 'right'; CREATE ROLE shut_out REPLICATION LOGIN;"
    . " CREATE ROLE reader LOGIN");
my $hba = $cluster->data('london') . '/pg_hba.conf';
my $rules = do { local (@ARGV, $/) = $hba; <> };
PgHaCluster::write_file($hba, "host replication shut_out 127.0.0.1/32 reject\nhost all,replication replicator 127.0.0.1/32 scram-sha-256\n$rules");
$cluster->sql('london', 'SELECT pg_reload_conf()');
my $port = $cluster->node('london')->{port};
my $as = sub { "host=127.0.0.1 port=$port user=$_[0]" };
$cluster->until_true(20, 'the new pg_hba.conf is in effect',
    sub { ($ctl->run($ctl->clone('paris', $as->('shut_out'))))[2] =~ /pg_hba/ });

refuses(3, qr{password authentication failed.*HINT:  Put the password into a file}s, 'a wrong password', 'paris', $as->('replicator') . ' password=wrong');
refuses(3, qr{pg_hba\.conf rejects replication.*HINT:  Add a line}s, 'pg_hba.conf without replication', 'paris', $as->('shut_out'));
refuses(3, qr{replication.*HINT:  Give the role the right}s, 'a role that may not replicate', 'paris', $as->('reader'));
refuses(3, qr{Connection refused}, 'a server that is down', 'paris', 'host=127.0.0.1 port=1 user=postgres');
refuses(4, qr{invalid connection string.*HINT}s, 'a connection string that is none', 'paris', 'nonsense');
$ctl->says(1, qr{the new server has no name.*--node-name}s, 'no name', 'clone', '-D', $cluster->data('paris'), '--from', $london, mapping('london', 'paris'));
$ctl->says(1, qr{has a member "london" already.*HINT}s, 'the name of another member', 'clone', '-D', $cluster->data('paris'), '--from', $london, '--node-name', 'london', mapping('london', 'paris'));
$ctl->says(1, qr{where member "london" is.*--peer-port}s, 'the address of another member', 'clone', '-D', $cluster->data('paris'), '--from', $london, '--node-name', 'paris', mapping('london', 'paris'));
refuses(3, qr{could not stream from "london".*HINT}s, 'streaming settings that do not work', 'paris', $london,
    mapping('london', 'paris'), '-c', 'pg_ha.replication_conninfo=user=reader');
refuses(1, qr{space-london", where a tablespace would go, is not empty.*HINT:  .*--tablespace-mapping}s,
    'a tablespace that is not mapped', 'paris', $london);
refuses(4, qr{no tablespace at "/nowhere"}, 'a mapping of a tablespace that there is not', 'paris', $london, '-T', '/nowhere=/tmp/x');
refuses(1, qr{into the data directory}, 'a tablespace within the data directory', 'paris', $london, '-T',
    "$cluster->{dir}/space-london=" . $cluster->data('paris') . '/space');
refuses(1, qr{no server "oslo"}, 'a source that is no member', 'paris', $london, '--source', 'oslo');
SKIP: {
    skip 'no small file system without root', 2 unless $small;
    $ctl->says(1, qr{not enough space in "/mnt": .* needed, .* free.*HINT}s, 'too little space', 'clone', '-D', '/mnt/paris', '--from', $london, $ctl->own_settings('paris'), mapping('london', 'paris'));
    ok(!-e '/mnt/paris', '... and nothing was written');
}
mkdir $cluster->data('paris') or die $!;
PgHaCluster::write_file($cluster->data('paris') . '/precious', 'mine');
$ctl->says(1, qr{is not empty.*HINT}s, 'a directory that is in use', $ctl->clone('paris', $london));
is(-s $cluster->data('paris') . '/precious', 4, '... is left alone');
unlink $cluster->data('paris') . '/precious';

# ---- a clone, by a role that may only replicate and read the cluster's state -----------------------------
$cluster->sql('london', 'GRANT pg_monitor TO replicator');
my $replicator = $as->('replicator') . ' password=right';
$ctl->says(0, qr{nothing stands in the way}, '--check writes nothing', $ctl->clone('paris', $replicator, '--check', mapping('london', 'paris')));
is_deeply([ glob $cluster->data('paris') . '/*' ], [], '... indeed');
$ctl->says(0, qr{ready to join as "paris". Start it with:\n    \S+pg_ctl .*copied .* MB in \d+ s}s, 'paris is cloned', $ctl->clone('paris', $replicator, mapping('london', 'paris')));
my $auto = do { local (@ARGV, $/) = $cluster->data('paris') . '/postgresql.auto.conf'; <> };
is(scalar(() = $auto =~ /^pg_ha\.node_name = 'paris'$/mg), 1, 'its name is set, once');
ok(-e $cluster->data('paris') . '/standby.signal' && !-e $cluster->data('paris') . '/pg_hactl.clone', 'it is a standby, and nothing is left of the work');
$cluster->start('paris');
$cluster->wait_standby_of('paris', 'london');
$ctl->says(1, qr{is not empty.*--restored}s, 'a server\'s directory is never cloned over', $ctl->clone('paris', $london));

# ---- interrupted ----------------------------------------------------------------------------------------------
my $rome = $cluster->data('rome');
my $copies = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_hactl'";
# Its files at least in part: the copies that are to be interrupted would take half a minute.
sub a_database_is_there { my @databases = glob "$rome/pg_hactl.copy/base/*"; return scalar @databases; }
sub interrupt {
    my ($signal) = @_;
    my $log = "$cluster->{dir}/clone-$signal.log";
    my $pid = $ctl->start($log, $ctl->clone('rome', $london, '--rate', '2M', mapping('london', 'rome')));
    $cluster->until_true(60, 'the copy has begun', sub { a_database_is_there() && -e $log && do { local (@ARGV, $/) = $log; <> // '' } =~ /copying/ });
    kill $signal, $pid;
    $cluster->until_true(20, 'it ends', sub { !PgHaCluster::is_running($pid) });
    ok(-e "$rome/pg_hactl.clone" && !-e "$rome/PG_VERSION", "SIG$signal leaves an unfinished clone");
    my ($status, undef, $err) = PgHaCluster::run_command(20, "$cluster->{bindir}/postgres", '-D', $rome);
    isnt($status, 0, '... which PostgreSQL does not open');
    my $marker = do { local (@ARGV, $/) = "$rome/pg_hactl.clone"; <> };
    like($marker, qr{^tablespace\S* \S+/space-rome$}m, '... and which knows what it made');
    $cluster->until_true(20, 'no process of the copy is left', sub { $cluster->sql('london', $copies) eq '0' });
    return do { local (@ARGV, $/) = $log; <> // '' };
}
# What it would be without pg_hactl: the process for the WAL outlives the other one.  This also shows that the question finds one.
my $plain = fork() // die "fork: $!";
if (!$plain) {
    open STDERR, '>', '/dev/null';
    exec { "$cluster->{bindir}/pg_basebackup" } "$cluster->{bindir}/pg_basebackup", '-D', "$cluster->{dir}/plain", '-d',
        "$london application_name=pg_hactl", qw(-c fast --no-sync --max-rate=1M), mapping('london', 'plain') or POSIX::_exit(127);
}
my @both;
$cluster->until_true(60, 'a plain pg_basebackup has two processes', sub { (@both = PgHaCluster::family($plain)) == 2 });
kill 'KILL', $plain;
$cluster->until_true(20, 'it has ended', sub { !PgHaCluster::is_running($plain) });
$cluster->sql('london', 'INSERT INTO apart VALUES (43)');
my $later = $cluster->sql('london', 'SELECT pg_current_wal_lsn()');
$cluster->poll('london', "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_hactl' AND write_lsn >= '$later'", '1',
    'control: the second process of a plain pg_basebackup stays behind and reads on');
kill 'KILL', $both[1];
$cluster->until_true(20, 'both have ended', sub { $cluster->sql('london', $copies) eq '0' });

like(interrupt('TERM'), qr{interrupted; the unfinished copy is still.*HINT:  Run the same command again}s, 'SIGTERM: it says what to do');
PgHaCluster::write_file("$rome/precious", 'mine');
$ctl->says(1, qr{contains "precious", which pg_hactl did not make}, 'what it did not make it does not remove', $ctl->clone('rome', $london));
is(-s "$rome/precious", 4, '... indeed');
unlink "$rome/precious";
interrupt('KILL');
my $first = $ctl->start("$cluster->{dir}/first.log", $ctl->clone('rome', $london, '--rate', '2M', mapping('london', 'rome')));
$cluster->until_true(60, 'the copy has begun', sub { -s "$cluster->{dir}/first.log" && do { local (@ARGV, $/) = "$cluster->{dir}/first.log"; <> } =~ /copying/ });
kill 'STOP', $first;
$ctl->says(1, qr{another pg_hactl clone is at work}, 'two clones into one directory', $ctl->clone('rome', $london));
kill 'KILL', $first;
$cluster->until_true(20, 'no process of the copy is left', sub { $cluster->sql('london', $copies) eq '0' });

# the connection is lost
my $lost = $ctl->start("$cluster->{dir}/lost.log", $ctl->clone('rome', $london, '--rate', '2M', mapping('london', 'rome')));
$cluster->until_true(60, 'the connections of the copy are ended',
    sub { a_database_is_there() && $cluster->sql('london', "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication WHERE application_name = 'pg_hactl'") >= 1 });
$cluster->until_true(20, 'it ends', sub { !PgHaCluster::is_running($lost) });
like(do { local (@ARGV, $/) = "$cluster->{dir}/lost.log"; <> }, qr{pg_basebackup failed: .*HINT:  What had been copied is removed}s, 'a lost connection: it says so');
ok(!-e $rome && !glob("$cluster->{dir}/space-rome/PG_*"), '... and what had been copied is removed');

interrupt('KILL');
$ctl->says(0, qr{ready to join as "rome".*removing what an interrupted clone left}s, 'the next run begins anew, from the standby',
    $ctl->clone('rome', $london, '--source', 'paris', mapping('paris', 'rome')));
ok(-e "$rome/backup_label" && do { local (@ARGV, $/) = "$rome/backup_label"; <> } =~ /BACKUP FROM: standby/, 'the copy is the standby\'s');
PgHaCluster::write_file("$rome/pg_hactl.clone", "killed when all was done but this file\n");
$ctl->says(0, qr{is complete already}, 'a clone that was whole when it was killed is not made again', $ctl->clone('rome', $london));
ok(!-e "$rome/pg_hactl.clone" && -e "$rome/PG_VERSION", '... and is only finished');
$cluster->start('rome');
$cluster->wait_standby_of('rome', 'london');
$cluster->wait_ready('london');
is($cluster->sql('rome', 'SELECT (SELECT count(*) FROM filler), (SELECT sum(id) FROM apart)'), '20000|85', 'it has the data');
ok(-e "$cluster->{dir}/space-rome/PG_15_202209061" || glob("$cluster->{dir}/space-rome/PG_*"), 'the tablespace is where it was mapped');
cmp_ok($cluster->sql($_, 'SHOW pg_ha.peers') =~ tr/://, '>=', 3, "$_ knows where to look for the others") for qw(paris rome);
$ctl->says(0, qr{^healthy: primary london}, 'pg_hactl status is content', 'status', '-d', $ctl->conninfo);
done_testing();
