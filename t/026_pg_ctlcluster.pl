# SPDX-License-Identifier: PostgreSQL
#
# Debian's way: clusters of pg_createcluster, with their settings in /etc/postgresql, as units of Debian's own file
# (Type=forking, pg_ctlcluster) under a real systemd.  A member is cloned with pg_hactl, demoted, rewound and cloned
# anew; systemd and pg_lsclusters see a server that runs.  All of it in a machine of its own, with directories of its own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaMachine;
use Test::More;
use Time::HiRes qw(sleep time);

# ---- clusters that Debian's tools make ------------------------------------------------------------------------

package PgHaDebian;
our @ISA = ('PgHaMachine');

my ($debians_unit) = grep { -e } map { "$_/systemd/system/postgresql\@.service" } qw(/usr/lib /lib);
my @stubs = qw(basic.target sysinit.target shutdown.target network.target);

sub unavailable {
    return 'there is no pg_createcluster, or no unit of Debian\'s' unless $debians_unit && -x '/usr/bin/pg_createcluster';
    return PgHaMachine->unavailable;
}

# pg_ha's files lie over the installed PostgreSQL's, as far as this machine can see.
my $prepare = <<'END';
own=$dir/own
installed=$(pg_config --bindir)
stage=${PG_HA_BINDIR%"$installed"}
mkdir -p "$own/usr/lib/postgresql/15" "$own/usr/share/postgresql/15"
(cd "$stage" && find . -type f -name 'pg_ha*' -exec cp --parents {} "$own" \;)
for place in /usr/lib/postgresql/15 /usr/share/postgresql/15; do
    mount -t overlay overlay -o "lowerdir=$own$place:$place" "$place"
done
install -d -o postgres -g postgres "$dir/lib" "$dir/lib/15" "$dir/etc" "$dir/logs" /run/postgresql
mount --bind "$dir/lib" /var/lib/postgresql
mount --bind "$dir/etc" /etc/postgresql
mount --bind "$dir/logs" /var/log/postgresql
PG_HA_BINDIR=$installed
END

sub new {
    my ($class, %options) = @_;
    my $self = PgHaCluster::new($class, %options, prepare => $prepare . PgHaMachine::holding_pg_rewind());
    for my $name ($self->names) {
        my $node = $self->node($name);
        $node->{data} = "$self->{machine}/lib/15/$name";
        $node->{log} = "$self->{machine}/logs/postgresql-15-$name.log";
    }
    $self->write_unit('postgresql@.service', do { local (@ARGV, $/) = $debians_unit; <> });
    $self->write_unit($_, "[Unit]\nDefaultDependencies=no\n") for @stubs;
    $self->must_systemctl('daemon-reload');
    return $self;
}

sub unit { return "postgresql\@15-$_[1].service"; }

sub as_postgres {
    my ($self, @command) = @_;
    return $self->there(60, qw(setpriv --reuid=postgres --regid=postgres --init-groups -- env -u NOTIFY_SOCKET), @command);
}

sub must {
    my ($self, $status, $out, $err) = @_;
    $self->give_up("status $status:\n$out$err") if $status != 0;
    return $out;
}

sub init {
    my ($self, $name) = @_;
    my $node = $self->node($name);
    $self->must($self->there(60, 'pg_createcluster', '--port', $node->{port}, '15', $name, '--', qw(--auth=trust --data-checksums --no-sync)));
    my $peers = join ', ', map { "127.0.0.1:$_->{peer_port}" } map { $self->node($_) } $self->names;
    PgHaCluster::write_file("$self->{machine}/etc/15/$name/conf.d/pg_ha.conf", <<"END");
fsync = off
wal_log_hints = on
shared_buffers = 16MB
wal_keep_size = 256MB
shared_preload_libraries = 'pg_ha'
listen_addresses = '127.0.0.1'
pg_ha.node_name = '$name'
pg_ha.listen_addresses = '127.0.0.1'
pg_ha.advertise_address = '127.0.0.1'
pg_ha.port = $node->{peer_port}
pg_ha.peers = '$peers'
pg_ha.replication_conninfo = 'user=postgres'
pg_ha.lease_duration = '3s'
END
}

# As docs/operations.md says: pg_createcluster for the settings, its data directory emptied, pg_hactl.
sub clone {
    my ($self, $name, $from) = @_;
    $self->init($name);
    $self->must($self->as_postgres('rm', '-rf', "/var/lib/postgresql/15/$name"));
    $self->must($self->as_postgres('/usr/lib/postgresql/15/bin/pg_hactl', 'clone', '-D', "/var/lib/postgresql/15/$name",
        '--from', "host=127.0.0.1 port=" . $self->node($from)->{port} . ' user=postgres'));
}

# Is a program of that name at work in a server's unit?
sub processes_called {
    my ($self, $name, $program) = @_;
    my $group = $self->unit($name);
    return grep { PgHaMachine::slurp("/proc/$_/comm") eq "$program\n" && PgHaMachine::slurp("/proc/$_/cgroup") =~ m{/\Q$group\E$}m }
        PgHaCluster::family($self->{systemd});
}

# What pg_lsclusters calls its state.
sub state_of {
    my ($self, $name) = @_;
    my $out = $self->must($self->as_postgres('pg_lsclusters', '--no-header'));
    return $out =~ m{^15\s+$name\s+\d+\s+(\S+)}m ? $1 : 'not listed';
}

package main;

if (my $reason = PgHaDebian->unavailable) { plan skip_all => $reason; }
my $cluster = PgHaDebian->new(limit => 600);
$cluster->start_all;
is($cluster->state_of('london'), 'online', 'pg_lsclusters shows the primary');
is($cluster->state_of($_), 'online,recovery', "and $_ as a standby") for qw(paris rome);
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
$cluster->start_writer;

# While it becomes a standby of that primary: what pg_lsclusters says of it, and what process its lock file names, each once.
sub seen_until_it_streams {
    my ($name, $primary) = @_;
    my (%states, %pids);
    $cluster->until_true(120, "$name streams from $primary", sub {
        $states{ $cluster->state_of($name) } = 1;
        $pids{ (split /\n/, PgHaMachine::slurp($cluster->data($name) . '/postmaster.pid'))[0] } = 1;
        return $cluster->streams($name, $primary);
    });
    return (join(' ', sort keys %states), join ' ', sort keys %pids);
}

sub status_line {
    my ($name) = @_;
    my @lines = split /\n/, PgHaMachine::slurp($cluster->data($name) . '/postmaster.pid');
    return $lines[-1] =~ s/\s+$//r;
}

# Frozen past its lease and thawed, with rows of its own or none: it restarts in place.
sub depose {
    my ($old, $rows, $done) = @_;
    $cluster->wait_writes(100, "on $old");
    my ($unit, $log) = ($cluster->identity($old), $cluster->log_size($old));
    like($unit, qr{^ActiveState=active SubState=running Result=success MainPID=\d+ NRestarts=0 }, "$old is a running unit");
    is($cluster->outer_pid($cluster->properties($old)->{MainPID}), $cluster->postmaster($old), 'whose main process is the postmaster');
    $cluster->diverge($old, $rows) if $rows;
    $cluster->freeze($old);
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $cluster->wait_writes(100, "on $new");
    $cluster->thaw($old);
    my ($states, $pids) = seen_until_it_streams($old, $new);
    like($states, qr{^(online )?online,recovery$}, 'pg_lsclusters shows it running all the time');
    is($pids, $cluster->properties($old)->{MainPID}, 'the lock file has named the main process all the time');
    like($cluster->log_text($old, $log), $done, "$old: $done");
    is($cluster->identity($old), $unit, 'systemd has noticed nothing');
    is(status_line($old), 'ready', 'and pg_ctl finds it ready');
    $cluster->wait_ready($new);
    return $new;
}

my $primary = depose('london', 0, qr{all server processes terminated; reinitializing});
$primary = depose($primary, 2000, qr{pg_ha_rejoin: done: rewound});

# -- a start that finishes a rejoin takes longer than pg_ctl waits
my $old = $primary;
PgHaCluster::append("$cluster->{machine}/etc/15/$old/pg_ctl.conf", "pg_ctl_options = '-t 2'\n");
$cluster->hold_pg_rewind;
$cluster->diverge($old, 2000);
$cluster->kill_everything($old);
$primary = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
$cluster->wait_writes(100, "on $primary");
$cluster->must_systemctl('start', '--no-block', $cluster->unit($old));
$cluster->until_true(60, 'the rewind has begun', sub { $cluster->rejoin_phase($old) eq 'rewinding' });
$cluster->must_systemctl('kill', '--signal=KILL', $cluster->unit($old));
$cluster->must_systemctl('stop', $cluster->unit($old));    # or it might wait for the PID file of the dead

my $log = $cluster->log_size($old);
$cluster->must_systemctl('start', '--no-block', $cluster->unit($old));
$cluster->wait_log($old, qr{running pg_ha_rejoin to finish what was begun}, 'the next start goes on with it', $log);
$cluster->until_true(60, 'pg_ctl has waited long enough', sub { $cluster->state_of($old) eq 'down,recovery' && !$cluster->processes_called($old, 'pg_ctl') });
my $now = $cluster->properties($old);
is("$now->{ActiveState} $now->{Result}", 'activating success', 'systemd waits longer than pg_ctl');
$cluster->let_pg_rewind_go;
$cluster->wait_standby_of($old, $primary);
$cluster->find_postmaster($old);
like($cluster->identity($old), qr{^ActiveState=active SubState=running Result=success MainPID=\d+ NRestarts=0 }, 'the unit has started');
is($cluster->state_of($old), 'online,recovery', 'pg_lsclusters shows it');
$cluster->wait_ready($primary);

# -- where pg_rewind cannot work it clones itself anew
$cluster->there(10, qw(mount --bind /bin/false /usr/lib/postgresql/15/bin/pg_rewind));
$old = $primary;
$primary = depose($old, 2000, qr{pg_ha_rejoin: done: cloned anew});
$cluster->poll($old, 'SELECT current_setting(\'data_directory\'), current_setting(\'config_file\'), current_setting(\'hba_file\')',
    "/var/lib/postgresql/15/$old|/etc/postgresql/15/$old/postgresql.conf|/etc/postgresql/15/$old/pg_hba.conf", 'with the settings that it had');
$cluster->verify_ledger($_) for $cluster->names;

# -- with the drop-in of docs/operations.md a killed server is started again
mkdir "$cluster->{machine}/units/postgresql\@.service.d" or die "mkdir: $!";
$cluster->write_unit('postgresql@.service.d/restart.conf', "[Service]\nRestart=on-failure\nRestartSec=1s\n");
$cluster->must_systemctl('daemon-reload');
$cluster->kill_postmaster($old);
$cluster->until_true(60, 'systemd starts it again', sub { $cluster->properties($old)->{NRestarts} eq '1' });
$cluster->find_postmaster($old);
$cluster->wait_standby_of($old, $primary);

# -- pg_ctlcluster, which asks systemd
sub ctl { my ($name, @words) = @_; return $cluster->there(60, 'pg_ctlcluster', 15, $name, @words); }
is((ctl($old, 'status'))[0], 0, 'pg_ctlcluster status: it runs');
my $unit = $cluster->identity($old);
is((ctl($old, 'restart'))[0], 0, 'pg_ctlcluster restart of a standby');
$cluster->find_postmaster($old);
isnt($cluster->identity($old), $unit, 'is what systemd notices');
$cluster->wait_standby_of($old, $primary);
$cluster->wait_ready($primary);
$cluster->sql($primary, 'CREATE EXTENSION amcheck');
$cluster->compare_data($primary, [ $cluster->names ], 'ledger');
is((ctl($_, 'stop'))[0], 0, "pg_ctlcluster stop of $_") for $cluster->names;
like($cluster->identity($_), qr{^ActiveState=inactive SubState=dead Result=success }, "the unit of $_ has ended well") for $cluster->names;
like($cluster->state_of($_), qr{^down}, "pg_lsclusters shows $_ down") for $cluster->names;
my ($status, $out, $err) = ctl('london', 'start');
is("$status $out$err", '0 ', 'pg_ctlcluster start of a member that finds nobody succeeds');
$cluster->find_postmaster('london');
is($cluster->sql('london', 'SELECT pg_is_in_recovery(), ha_is_primary()'), 't|f', 'it waits, read-only');
is($cluster->state_of('london'), 'online,recovery', 'and pg_lsclusters shows it');
done_testing();
