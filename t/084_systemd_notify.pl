# SPDX-License-Identifier: PostgreSQL
#
# Under a real systemd, as units of Type=notify (and a start as Type=forking), with the settings that docs/operations.md gives: demotion and rewind
# in place go by unnoticed, a member that waits alone counts as started, and a start that has to finish a rejoin first
# may take longer than TimeoutStartSec.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaMachine;
use Test::More;
use Time::HiRes qw(sleep time);

if (my $reason = PgHaMachine->unavailable) { plan skip_all => $reason; }
my $documented = do { local (@ARGV, $/) = "$FindBin::Bin/../docs/operations.md"; <> =~ m{^( {4}\[Unit\]\n[^#]*? {4}Type=notify\n.*?)\n\n(?! {4})}ms ? $1 : '' };
ok($documented, 'docs/operations.md has a unit of Type=notify');
my $cluster = PgHaMachine->new(settings => "pg_ha.lease_duration = '3s'\n", prepare => PgHaMachine::holding_pg_rewind());
$documented =~ s{^ {4}}{}mg;
$documented =~ s{^(After|Wants|WantedBy)=.*\n}{}mg;
$documented =~ s{^\[Unit\]\n}{[Unit]\nDefaultDependencies=no\n}m;
is($documented =~ s{^ExecStart=\S+ -D \S+$}{ExecStart=$cluster->{bindir}/postgres -D $cluster->{dir}/%i}mg, 1, 'which starts postgres -D');
$documented =~ s{^\[Service\]\n}{[Service]\nStandardOutput=append:$cluster->{dir}/%i.log\nStandardError=inherit\n}m;

# The documented unit, except for these lines.
sub use_unit {
    my (%other) = @_;
    my $text = $documented;
    for my $key (sort keys %other) { $text =~ s{^$key=.*\n}{}m; $text =~ s{^\[Service\]\n}{[Service]\n$key=$other{$key}\n}m; }
    $cluster->write_unit('server@.service', $text);
    $cluster->must_systemctl('daemon-reload');
}

sub unbroken {
    my ($name, $before, $what) = @_;
    is($cluster->identity($name), $before, "systemd has noticed nothing of $what");
}

use_unit();
$cluster->start_all;
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
$cluster->start_writer;
my $unit = $cluster->identity('london');
like($unit, qr{^ActiveState=active SubState=running Result=success MainPID=\d+ NRestarts=0 }, "the primary is a running unit: $unit");
is($cluster->outer_pid($cluster->properties('london')->{MainPID}), $cluster->postmaster('london'), 'whose main process is the postmaster');

# -- demotion in place
$cluster->wait_writes(100, 'before the freeze');
$cluster->freeze('london');
my $new = $cluster->wait_primary('paris', 'rome');
$cluster->wait_writes(100, "on $new");
my $log = $cluster->log_size('london');
$cluster->thaw('london');
$cluster->wait_standby_of('london', $new);
like($cluster->log_text('london', $log), qr{all server processes terminated; reinitializing}, 'london has restarted in place');
unbroken('london', $unit, 'a demotion in place');
$cluster->wait_ready($new);

# -- rewind in place
$unit = $cluster->identity($new);
$cluster->diverge($new, 2000);
$cluster->freeze($new);
my ($frozen, $next) = ($new, $cluster->wait_primary(grep { $_ ne $new } $cluster->names));
$cluster->wait_writes(100, "on $next");
$log = $cluster->log_size($frozen);
$cluster->thaw($frozen);
$cluster->wait_standby_of($frozen, $next);
like($cluster->log_text($frozen, $log), qr{pg_ha_rejoin: done: rewound}, "$frozen was rewound");
unbroken($frozen, $unit, 'a rewind in place');
$cluster->wait_ready($next);

# -- a crash is something else, and this test would see it
$unit = $cluster->identity($frozen);
$cluster->kill_postmaster($frozen);
$cluster->until_true(30, 'systemd starts it again', sub { $cluster->properties($frozen)->{NRestarts} eq '1' });
isnt($cluster->identity($frozen), $unit, 'another main process is noticed');
$cluster->find_postmaster($frozen);
$cluster->wait_standby_of($frozen, $next);
$cluster->wait_ready($next);

# -- a start that finishes a rejoin first takes longer than TimeoutStartSec
$cluster->diverge($next, 2000);
$cluster->hold_pg_rewind;
use_unit(Restart => 'no');
$cluster->kill_everything($next);
my ($old, $leader) = ($next, $cluster->wait_primary(grep { $_ ne $next } $cluster->names));
$cluster->wait_writes(100, "on $leader");
$cluster->must_systemctl('start', $cluster->unit($old));
$cluster->until_true(60, 'the rewind has begun', sub { $cluster->rejoin_phase($old) eq 'rewinding' });
$cluster->must_systemctl('kill', '--signal=KILL', $cluster->unit($old));
$cluster->until_true(30, 'the unit has failed', sub { $cluster->properties($old)->{ActiveState} eq 'failed' });

use_unit(TimeoutStartSec => '3s', Restart => 'no', UnsetEnvironment => 'NOTIFY_SOCKET');
$cluster->must_systemctl('reset-failed', $cluster->unit($old));
$cluster->must_systemctl('start', '--no-block', $cluster->unit($old));
$cluster->until_true(60, 'the start has timed out', sub { $cluster->properties($old)->{ActiveState} eq 'failed' });
is($cluster->properties($old)->{Result}, 'timeout', 'where nobody tells systemd, TimeoutStartSec ends the start');

use_unit(TimeoutStartSec => '3s', Restart => 'no');
$cluster->must_systemctl('reset-failed', $cluster->unit($old));
$cluster->launch($old);
my $end = time + 7;
sleep 0.2 while time < $end && $cluster->properties($old)->{ActiveState} eq 'activating';
my $now = $cluster->properties($old);
is("$now->{ActiveState} $now->{Result}", 'activating success', 'otherwise the start goes on for more than twice as long');
like($now->{StatusText}, qr{pg_ha_rejoin}, "systemctl status tells why: $now->{StatusText}");
$cluster->let_pg_rewind_go;
$cluster->wait_standby_of($old, $leader);
$cluster->until_true(20, 'systemd has heard of it', sub { ($now = $cluster->properties($old))->{ActiveState} ne 'activating' && !$now->{StatusText} });
is("$now->{ActiveState} $now->{SubState} $now->{NRestarts} $now->{StatusText}", 'active running 0 ', 'the unit has started');
$cluster->verify_ledger($old);
$cluster->sql($leader, 'CREATE EXTENSION amcheck');
$cluster->compare_data($leader, [ $cluster->names ], 'ledger');

# -- a member alone
use_unit(TimeoutStartSec => '20s', Restart => 'no');
$cluster->must_systemctl('stop', map { $cluster->unit($_) } $cluster->names);
is($cluster->properties($_)->{Result}, 'success', "systemctl stop of $_ is clean") for $cluster->names;
for my $type (qw(notify forking)) {
    my ($status, undef, $err) = $cluster->systemctl(40, 'start', $cluster->unit('london'));
    is("$status $err", '0 ', "Type=$type: the start of a member that finds nobody succeeds");
    $cluster->find_postmaster('london');
    like($cluster->identity('london'), qr{^ActiveState=active SubState=running Result=success }, 'it runs');
    is($cluster->sql('london', 'SELECT pg_is_in_recovery(), ha_is_primary()'), 't|f', 'and waits, read-only');
    my $pid = $cluster->properties('london')->{MainPID};
    like(PgHaMachine::slurp($cluster->data('london') . '/postmaster.pid'), qr{^$pid\n.*\nready\s*$}s, 'its lock file names the main process and says ready');
    $cluster->must_systemctl('stop', $cluster->unit('london'));
    use_unit(Type => 'forking', TimeoutStartSec => '20s', PIDFile => "$cluster->{dir}/%i/postmaster.pid",
        ExecStart => "$cluster->{bindir}/pg_ctl start -s -D $cluster->{dir}/%i -l $cluster->{dir}/%i.pg_ctl.log");
}
done_testing();
