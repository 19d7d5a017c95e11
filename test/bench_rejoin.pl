# SPDX-License-Identifier: PostgreSQL
#
# How long an old primary needs until it streams again, counted from its start (kill: the postmaster is killed
# and started again at once) or from its thaw.  One JSON line per case on standard output.
#   undiverged  all WAL is on the others: it just follows
#   rewind      killed with WAL that nobody else has
#   frozen      the same, but it was frozen past its lease: under the same postmaster
#   clone       as rewind, where pg_rewind cannot work
# And two that are no rejoin:
#   no_leader   100 attempts that find no primary, or not the one that is meant: how long until they give up, and how many
#               left every byte of the data directory as it was
#   witness     memory and size of a pg_ha_witness that votes, instead of times
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use PgHaCluster;
use PgHaScenes;
use PgHaUntouched;
use PgHaWitness;
use Test::More;
use Time::HiRes qw(time sleep);

Test::More->builder->output(\*STDERR);
my %option = (case => 'rewind', rounds => 5, mb => 500);
while (my $name = shift) { $option{ $name =~ s/^--//r } = shift; }
my ($case, $rounds) = @option{qw(case rounds)};

if ($case eq 'witness') { measure_witness(); }
elsif ($case eq 'no_leader') { measure_attempts(); }
else { measure_rejoins(); }
done_testing();

sub percentile {
    my ($share, @sorted) = @_;
    my $index = int($share * @sorted + 0.999999) - 1;
    return $sorted[ $index < 0 ? 0 : $index ];
}

sub print_line {
    my ($more, $same_pid, $lost, @ms) = @_;
    @ms = sort { $a <=> $b } @ms;
    printf STDOUT qq({"case": "%s", "n": %d, "median_ms": %.0f, "p99_ms": %.0f, "max_ms": %.0f, "same_pid": %d, "lost": %d, %s}\n),
        $case, scalar @ms, percentile(0.5, @ms), percentile(0.99, @ms), $ms[-1], $same_pid, $lost, $more;
}

sub measure_rejoins {
    my $cluster = PgHaCluster->new(
        limit => 600 + 300 * $rounds, checksums => $case ne 'clone',
        settings => $case eq 'clone' ? "wal_log_hints = off\n" : '',
    );
    $cluster->start_first;
    $cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
    $cluster->sql('london', 'CREATE TABLE ballast (id int, text text)');
    for (1 .. $option{mb} / 20) { # a statement has a limit of its own
        $cluster->sql('london', "INSERT INTO ballast SELECT n, repeat('x', 1000) FROM generate_series(1, 20 * 960) n");
    }
    for my $name (qw(paris rome)) {
        $cluster->clone($name, 'london');
        $cluster->start($name);
    }
    $cluster->wait_ready('london', 300);
    my ($primary, $same_pid, $lost, @ms) = ('london', 0, 0);
    for my $round (1 .. $rounds) {
        my $old = $primary;
        ($primary, my $ms, my $same) = one_rejoin($cluster, $old);
        push @ms, $ms;
        $same_pid += $same;
        $lost = $cluster->verify_ledger($primary) // -1; # of all rounds so far
        $cluster->wait_ready($primary, 120);
    }
    print_line(qq("mb": $option{mb}), $same_pid, $lost, @ms);
}

# The new primary, how long the old one took, and whether it still has its postmaster.
sub one_rejoin {
    my ($cluster, $old) = @_;
    $cluster->start_writer;
    $cluster->wait_writes(50, 'before');
    my $pid = $cluster->postmaster($old);
    $cluster->diverge($old, 2000) unless $case eq 'undiverged';
    if ($case eq 'frozen') { $cluster->freeze($old); }
    else {
        $cluster->stop_writer if $case eq 'undiverged';
        $cluster->kill_everything($old);
    }
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    my $begin = time;
    if ($case eq 'frozen') { $cluster->thaw($old); }
    else { $cluster->launch($old); }
    $cluster->until_true(290, "$old streams again", sub {
        return ($cluster->try_sql($new, "SELECT count(*) FROM pg_stat_replication WHERE application_name = '$old' AND state = 'streaming'"))[1] eq '1';
    });
    return ($new, (time - $begin) * 1000, $cluster->postmaster($old) == $pid ? 1 : 0);
}

sub measure_attempts {
    my $cluster = PgHaCluster->new(limit => 900);
    $cluster->start_all;
    make_filler($cluster, 0);
    my $new = die_diverged($cluster, 'london', 2000);
    my @attempts = rejoins_without_leader($cluster, 'london', $new);
    my $identical = grep { $_->{refused} && $_->{identical} } @attempts;
    is($identical, scalar @attempts, 'every byte is as it was');
    print_line(qq("identical": $identical), 0, $cluster->verify_ledger($new) // -1, map { $_->{ms} } @attempts);
}

sub measure_witness {
    my $cluster = PgHaCluster->new(nodes => [qw(london paris)], files => ['pg_ha_witness']);
    start_two_and_witness($cluster);
    my ($pss, $rss, $program) = witness_cost($cluster, 'athens');
    printf STDOUT qq({"case": "witness", "n": 1, "pss_kb": %d, "rss_kb": %d, "program_kb": %d}\n), $pss, $rss, $program;
}
