# SPDX-License-Identifier: PostgreSQL
#
# Faults drawn at random, over one another, against real servers under the independent ledger.  Storms of about
# twenty seconds; after each everything is mended, and the cluster has to come home by itself: one primary, everybody
# streams, all vote, everything acknowledged is there, no process is left over.
#
# Started by scripts/chaos.  The seed gives the schedule; what the servers make of it is theirs.  Prints a line per
# fault and phase, what it found, and at the end one JSON line.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use PgHaCluster;
use PgHaFaults;
use PgHaLedger;
use PgHaNetwork;
use PgHaWitness;
use Test::More;
use Time::HiRes qw(time sleep);

my ($seed, $minutes, $servers, $witness, $synchronous, $only) = (int(time) % 1_000_000, 3, 3, 0, 'on', '');
GetOptions('seed=i' => \$seed, 'minutes=f' => \$minutes, 'nodes=i' => \$servers, 'witness' => \$witness, 'sync=s' => \$synchronous,
    'faults=s' => \$only) or exit 2;
my @names = (qw(london paris rome oslo bern)[ 0 .. $servers - 1 ], $witness ? 'athens' : ());

my $home_limit = 180;    # seconds until everybody is home; generous, as machines are busy
my $start_limit = 8;     # times that a server may end by itself in one quiet phase

# Test::More keeps the books of the library; what it says is not the result here.
open my $quiet, '>', '/dev/null' or die $!;
Test::More->builder->output($quiet);
$| = 1;

{
    no warnings 'redefine';
    *PgHaCluster::give_up = sub { die "$_[1]\n" };
}

# ---- the schedule, drawn before anything happens ---------------------------------------------------------

sub draw_kind {
    my @kinds = @_;
    my $sum = 0;
    $sum += PgHaFaults::weight($_) for @kinds;
    my $number = rand $sum;
    for my $kind (@kinds) { return $kind if ($number -= PgHaFaults::weight($kind)) < 0; }
    return $kinds[-1];
}

sub draw_phase {
    my ($every, @kinds) = @_;
    my ($length, $at) = (12 + rand 12, 0);
    my %phase = (supervised => rand() < 0.5, events => []);
    my $pace = $every * (0.4 + rand 1.6);
    while (($at += -log(1 - rand) * $pace) < $length) {
        my $kind = draw_kind(@kinds);
        my $primary = rand() < (PgHaFaults::prefers_primary($kind) ? 0.75 : 0.4);
        push @{ $phase{events} }, { at => $at, kind => $kind, primary => $primary, which => rand, numbers => [ map { rand } 1 .. 10 ] };
    }
    $phase{length} = $length;
    return \%phase;
}

my $network = !defined PgHaNetwork->unavailable;
srand $seed;
my $lease = (0.6, 1, 1, 2)[ rand 4 ];
my @kinds = $only ? split(/,/, $only) : PgHaFaults::kinds($network);
my @phases = map { draw_phase(2, @kinds) } 1 .. 4 * $minutes + 2;

# ---- the run ---------------------------------------------------------------------------------------------------

my $begun = time;
my (@findings, %count, %verdict, $cluster, $ledger, $faults);
my ($phases_done, $slowest) = (0, 0);

sub say_at { printf "%7.2f  %s\n", time - $begun, $_[0]; }
sub finding {
    my ($text) = @_;
    push @findings, $text;
    say_at("FINDING: $text");
}

# Whoever acknowledged last, without asking anybody.
sub primary {
    open my $in, '<', $ledger->{files}[-1] or return ($cluster->names)[0];
    seek $in, -4000, 2;
    my $last;
    while (<$in>) { $last = $1 if /^\d+ \S+:(\d+) \d+ \d+ \d+ A$/; }
    my ($name) = grep { $cluster->node($_)->{port} == ($last // 0) } $cluster->names;
    return $name // ($cluster->names)[0];
}

sub inject {
    my ($event) = @_;
    my $primary = primary();
    my $others = [ grep { $_ ne $primary } @names ];
    my $name = $event->{primary} ? $primary : PgHaFaults::pick($event->{which}, @$others);
    my ($text, @later) = $faults->inject($event->{kind}, $name, @{ $event->{numbers} });
    return unless defined $text;
    ++$count{ $event->{kind} };
    say_at($text);
    return map { { due => time + $_->[0], do => $_->[1] } } @later;
}

sub storm {
    my ($phase) = @_;
    my $start = time;
    my @events = @{ $phase->{events} };
    my @later;
    while (time - $start < $phase->{length}) {
        push @later, inject(shift @events) while @events && time - $start >= $events[0]{at};
        my @due = sort { $a->{due} <=> $b->{due} } grep { $_->{due} <= time } @later;
        @later = grep { my $one = $_; !grep { $_ == $one } @due } @later;
        for (@due) { my $text = $_->{do}->(); say_at("  $text") if defined $text; }
        start_again() if $phase->{supervised};
        sleep 0.02;
    }
}

# As a service manager does that restarts what has ended.
sub start_again {
    for my $name (grep { $cluster->node($_)->{wanted} && !$faults->is_up($_) } @names) {
        next if time - ($cluster->node($name)->{launched} // 0) < 1;
        $cluster->node($name)->{launched} = time;
        ++$cluster->node($name)->{starts};
        $faults->launch($name);
        say_at("  start $name again");
    }
}

my $all_votes = @names;
my $home = "SELECT c.failover_possible AND c.voters = $all_votes AND c.config_in_force AND NOT c.paused AND ha_is_primary()"
    . " AND (NOT c.synchronous OR array_length(string_to_array(c.sync_set, ','), 1) = $servers)"
    . " AND (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming') = $servers - 1 FROM ha_cluster c";

sub is_home {
    my ($name) = @_;
    return 0 if ($cluster->try_sql($name, $home, 5))[1] ne 't';
    for my $other (grep { $_ ne $name } $cluster->names) {
        return 0 if ($cluster->try_sql($other, "SELECT pg_is_in_recovery() AND name = '$name' FROM ha_primary()", 5))[1] ne 't';
    }
    return 1;
}

# An operator's part: a pause that the storm has left ends, and replay goes on.
sub resume {
    for my $name ($cluster->names) {
        my ($status, $paused) = $cluster->try_sql($name, 'SELECT paused, ha_is_primary(), role FROM ha_cluster', 5);
        next if $status != 0;
        $cluster->try_sql($name, 'SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery() AND pg_is_wal_replay_paused()', 5);
        $cluster->try_sql($name, 'SELECT ha_resume()', 10) if $paused =~ /^t\|t/;
        $cluster->try_sql($name, 'SELECT ha_failover()', 20) if $paused =~ /^t\|f\|standby/ && !defined $cluster->find_primary;
    }
}

sub wait_home {
    my $start = time;
    $_->{wanted} = 1, $_->{starts} = 0 for values %{ $cluster->{nodes} };
    my $primary;
    until (defined $primary) {
        start_again();
        my ($often) = grep { $cluster->node($_)->{starts} > $start_limit } @names;
        return finding("$often does not stay up: " . last_error($often)) if defined $often;
        resume();
        ($primary) = grep { is_home($_) } $cluster->names;
        return finding("not home after $home_limit s") if !defined $primary && time - $start > $home_limit;
        sleep 0.1;
    }
    my $took = time - $start;
    $slowest = $took if $took > $slowest;
    say_at(sprintf 'home after %.1f s, primary %s', $took, $primary);
    return $primary;
}

sub last_error {
    my ($name) = @_;
    my @errors = $cluster->log_text($name) =~ /((?:FATAL|PANIC|ERROR): .*)/g;
    return $errors[-1] // 'nothing in its log';
}

# Also while it writes on: what is in the file by now has to be there.
sub verify {
    my ($primary) = @_;
    my (undef, $out, $err) = PgHaCluster::run_command(120, $ledger->program, 'verify', '--hosts', $cluster->addresses($primary),
        '--out', $ledger->{files}[-1]);
    my %found = $out =~ /"(\w+)": (\d+)/g;
    die "the ledger cannot be verified: $err\n" unless defined $found{lost};
    my @bad = (($synchronous eq 'on' && $found{lost} > ($verdict{lost} // 0)) ? 'lost' : (), $found{double_acks} > ($verdict{double_acks} // 0) ? 'double_acks' : ());
    finding("$found{$_} $_ after phase $phases_done: " . ($err =~ s/\n/; /gr)) for @bad;
    %verdict = %found;
}

my $forbidden = qr/PANIC|TRAP:|broken invariant|terminated by signal (?:4|6|7|8|11)\b|std::|stack smashing|invalid page|corrupt|could not locate a valid checkpoint/;
sub look_at_logs {
    for my $name (@names) {
        my $node = $cluster->node($name);
        my $size = $cluster->log_size($name);
        my @lines = grep { /$forbidden/ && !/HINT: / } split /\n/, $cluster->log_text($name, $node->{seen} // 0);
        $node->{seen} = $size;
        finding("log of $name: $lines[0]" . (@lines > 1 ? ' and ' . (@lines - 1) . ' more' : '')) if @lines;
    }
}

sub look_for_orphans {
    for my $name (@names) {
        my @left;
        my $end = time + 20;
        while ((@left = $faults->orphans($name)) && time < $end) { sleep 0.2; }
        finding("left over of $name: " . join ', ', map { "$_ " . PgHaFaults::title($_) } @left) if @left;
    }
}

# What there is to know about a cluster that did not come home.
sub report {
    for my $name ($cluster->names) {
        say_at("---- $name" . ($faults->is_up($name) ? '' : ', which does not run'));
        for my $query ('TABLE ha_cluster', 'SELECT name, role, liveness, voter, in_sync_set, term, timeline, lsn, replayed_lsn, streaming, reason FROM ha_members',
            'SELECT number, at, to_role, term, timeline, lsn, reason FROM (SELECT * FROM ha_events ORDER BY number DESC LIMIT 30) e ORDER BY number',
            'SELECT pid, state, application_name, sync_state, flush_lsn, replay_lsn FROM pg_stat_replication',
            'SELECT pg_is_in_recovery(), pg_is_wal_replay_paused() FROM pg_is_in_recovery() r WHERE r') {
            my ($status, $out, $err) = $cluster->try_sql($name, $query, 5);
            print $status == 0 ? "$out\n" : "$query: $err";
        }
        print join '', map { sprintf "%6d %s %s\n", $_, (PgHaCluster::process_state($_))[0] // '-', PgHaFaults::title($_) } sort { $a <=> $b } $faults->processes($name);
    }
}

sub make_cluster {
    my $class = $network ? 'PgHaNetwork' : 'PgHaCluster';
    $cluster = $class->new(nodes => [@names], limit => 60 * $minutes + 1200, $witness ? (files => ['pg_ha_witness']) : (), bindir => $ENV{PG_HA_BINDIR},
        settings => sprintf("pg_ha.lease_duration = '%dms'\npg_ha.fence_wait = '300ms'\npg_ha.synchronous = %s\nmax_wal_senders = 20\nlogging_collector = off\n", 1000 * $lease, $synchronous));
    if ($witness) {
        $cluster->start_first;
        add_witness($cluster, 'athens', lease_duration => sprintf '%dms', 1000 * $lease);
        start_witness($cluster, 'athens');
        for my $name (grep { $_ ne 'london' } $cluster->names) {
            $cluster->clone($name, 'london');
            $cluster->start($name);
        }
        wait_voters($cluster, 'london', $all_votes);
    } else { $cluster->start_all; }
    $cluster->sql('london', $_) for 'CREATE EXTENSION amcheck', 'CREATE SEQUENCE filler_id', 'CREATE TABLE filler (id bigint, text text)', 'CREATE INDEX ON filler (id)';
    $ledger = PgHaLedger->new($cluster, sessions => 2, pause_us => 3000);
    $faults = PgHaFaults->new($cluster, lease => $lease);
    $_->{wanted} = 1 for values %{ $cluster->{nodes} };
}

sub all_phases {
    $ledger->start;
    $ledger->wait(100, 'before');
    for my $phase (@phases) {
        last if time - $begun > 60 * $minutes;
        ++$phases_done;
        say_at("phase $phases_done" . ($phase->{supervised} ? ', ended servers are started again' : ''));
        storm($phase);
        $faults->mend;
        my $primary = wait_home();
        look_at_logs();
        return report() if @findings;
        $ledger->wait(50, 'after the storm');
        verify($primary);
        look_for_orphans();
        return report() if @findings;
    }
    $ledger->stop;
    my ($primary) = grep { is_home($_) } $cluster->names;
    $primary //= wait_home();
    verify($primary);
    open my $errors, '>', \my $text;
    Test::More->builder->failure_output($errors);
    $cluster->compare_data($primary, [ $cluster->names ], 'ledger', 'filler');
    Test::More->builder->failure_output(\*STDERR);
    finding("servers differ: $text") if !Test::More->builder->is_passing;
}

printf "seed %d, %d servers%s, synchronous %s, lease %g s, %s\n", $seed, $servers, $witness ? ' and a witness' : '', $synchronous, $lease,
    $network ? 'with broken links' : 'without broken links: these need root';
eval { make_cluster(); all_phases(); 1 } or finding('gave up: ' . ($@ =~ s/\n/; /gr));
if ($faults) {
    kill 'KILL', map { $faults->processes($_) } @names;
    look_for_orphans();
}
printf qq({"seed": %d, "nodes": %d, "witness": %d, "synchronous": "%s", "phases": %d, "faults": %d, "kinds": {%s}, "slowest_home_s": %.1f, %s"findings": %d}\n),
    $seed, $servers, $witness, $synchronous, $phases_done, eval { my $sum = 0; $sum += $_ for values %count; $sum },
    join(', ', map { qq("$_": $count{$_}) } sort keys %count), $slowest,
    join('', map { defined $verdict{$_} ? qq("$_": $verdict{$_}, ) : '' } qw(acknowledged unknown timelines lost double_acks late_acks)), scalar @findings;
ok(!@findings, 'no findings') or diag(map { "$_\n" } @findings);
done_testing();
