# SPDX-License-Identifier: PostgreSQL
#
# A cluster whose servers are units of a real systemd: that runs as the first process of a small machine of its own
# (boot_machine), on the host's network, and sees no unit but the test's.  Needs root, to make the machine.
package PgHaMachine;

use strict;
use warnings;
use parent -norequire, 'PgHaCluster';
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PgHaCluster;
use PgHaRoot;

my $systemd = '/lib/systemd/systemd';
my $boot = dirname(abs_path(__FILE__)) . '/boot_machine';

# Why there can be no such machine here; undef: there can.
sub unavailable {
    return 'a machine with systemd needs root' if $> != 0;
    return "there is no $systemd" unless -x $systemd && -x '/bin/systemctl';
    my ($status, undef, $err) = PgHaCluster::run_command(10, qw(unshare --mount --pid --uts --ipc --cgroup --fork --mount-proc
        sh -c), 'mount -t cgroup2 none /sys/fs/cgroup');
    return $status == 0 ? undef : "namespaces and control groups (v2) do not work here: $err";
}

# Option of new(): prepare, shell commands of root's in the machine before systemd.
sub before_root_is_dropped {
    my ($self) = @_;
    my $machine = $self->{machine} = "$self->{dir}/machine";
    my $group = $self->{group} = "pg_ha-test-$$";
    mkdir $_, 0755 or die "$_: $!" for $machine, "$machine/units";
    PgHaCluster::write_file("$machine/prepare", $self->{given}{prepare}) if defined $self->{given}{prepare};
    $self->write_unit('machine.target', "[Unit]\nDescription=the test's machine\nDefaultDependencies=no\n");
    chown +(getpwnam 'postgres')[2, 3], "$machine/units";
    $self->{root} = PgHaRoot->new(sub { remove_groups($group); });
    $self->{booted} = $self->{root}->spawn("$machine/log", qw(unshare --mount), $boot, $machine, $group);
    my ($state, $err) = ('', '');
    $self->until_true(60, 'systemd runs in the machine', sub {
        $self->give_up("the machine does not boot: $err" . slurp("$machine/log")) unless PgHaCluster::is_running($self->{booted});
        ($self->{systemd}) = grep { (inner_pid($_) // 0) == 1 } PgHaCluster::family($self->{booted}) unless $self->{systemd};
        (undef, $state, $err) = $self->systemctl(10, 'is-system-running') if $self->{systemd};
        return $state =~ /^(running|degraded)$/m;
    });
}

# Shell commands for `prepare`: in this machine pg_rewind waits as long as the cluster's directory has a file `hold`.
sub holding_pg_rewind {
    return <<'END';
program=$(readlink -f "${PG_HA_BINDIR:-$(pg_config --bindir)}/pg_rewind")
cp "$program" /run/pg_rewind
cat >/run/held <<SCRIPT
#!/bin/sh
case " \$* " in *" --dry-run "*) ;; *) while [ -e "${dir%/machine}/hold" ]; do sleep 0.05; done ;; esac
exec /run/pg_rewind "\$@"
SCRIPT
chmod 0755 /run/held
mount --bind /run/held "$program"
END
}
sub hold_pg_rewind { PgHaCluster::write_file("$_[0]{dir}/hold", ''); }
sub let_pg_rewind_go { unlink "$_[0]{dir}/hold" or die "unlink: $!"; }

# The phase that a rejoin of this node is in.
sub rejoin_phase {
    my ($self, $name) = @_;
    return slurp($self->state_directory($name) . '/rejoin') =~ m{^phase (\S+)$}m ? $1 : '';
}

# The processes of the machine have been killed: the first took the others with it.
sub remove_groups {
    my ($group) = @_;
    PgHaCluster::run_command(30, qw(unshare --mount sh -c), 'root=$(mktemp -d) && mount -t cgroup2 none $root || exit;'
        . " for i in 1 2 3 4 5 6 7 8 9; do find \$root/$group -depth -type d -exec rmdir {} + && break; sleep 0.3; done;"
        . ' umount $root; rmdir $root');
}

sub slurp {
    my ($path) = @_;
    open my $in, '<', $path or return "$path: $!";
    local $/;
    return <$in> // '';
}

sub write_unit {
    my ($self, $name, $text) = @_;
    PgHaCluster::write_file("$self->{machine}/units/$name", $text);
}

# ---- the machine ----------------------------------------------------------------------------------------------

# The number that a process has in the innermost of its namespaces, and the other way round.
sub inner_pid {
    my ($pid) = @_;
    open my $in, '<', "/proc/$pid/status" or return;
    for (<$in>) { return $1 if m{^NSpid:.*\s(\d+)$}; }
    return;
}
sub outer_pid {
    my ($self, $inner) = @_;
    my ($pid) = grep { (inner_pid($_) // 0) == $inner } PgHaCluster::family($self->{systemd});
    return $pid;
}

# A command of root's in the machine: (status, stdout, stderr).
sub there {
    my ($self, $limit, @command) = @_;
    return $self->{root}->run($limit, qw(nsenter -m -p -u -i -C -t), $self->{systemd}, '--', @command);
}

sub systemctl {
    my ($self, $limit, @words) = @_;
    return $self->there($limit, 'systemctl', @words);
}

sub must_systemctl {
    my ($self, @words) = @_;
    my ($status, $out, $err) = $self->systemctl(60, @words);
    $self->give_up("systemctl @words: status $status\n$out$err") if $status != 0;
    return $out;
}

# ---- servers as units --------------------------------------------------------------------------------------------

sub unit { return "server\@$_[1].service"; }

# What systemd thinks of a server.
sub properties {
    my ($self, $name) = @_;
    my $out = $self->must_systemctl('show', $self->unit($name), '-p',
        'ActiveState,SubState,Result,MainPID,NRestarts,InvocationID,StatusText,ExecMainStartTimestampMonotonic');
    return { map { m{^(\w+)=(.*)$} } split /\n/, $out };
}

# What must not change as long as a server is not restarted; one line.
sub identity {
    my ($self, $name) = @_;
    my $now = $self->properties($name);
    return join ' ', map { "$_=$now->{$_}" } qw(ActiveState SubState Result MainPID NRestarts InvocationID ExecMainStartTimestampMonotonic);
}

sub launch {
    my ($self, $name) = @_;
    my $node = $self->node($name);
    $self->until_true(20, "the old processes of $name are gone", sub { !grep { PgHaCluster::is_running($_) } @{ $node->{family} } });
    $self->forget_kept_standbys($name);
    $self->must_systemctl('start', '--no-block', $self->unit($name));
    $self->find_postmaster($name);
}

sub find_postmaster {
    my ($self, $name) = @_;
    my $node = $self->node($name);
    my $pid;
    $self->until_true(60, "$name has a main process", sub {
        my $main = $self->properties($name)->{MainPID};
        return $main && defined($pid = $self->outer_pid($main));
    });
    $node->{pid} = $pid;
    $node->{family} = [$pid];
}

1;
