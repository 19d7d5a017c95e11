# SPDX-License-Identifier: PostgreSQL
#
# How long an old primary needs until it streams again, counted from its start (kill: the postmaster is killed
# and started again at once) or from its thaw.  One JSON line per case on standard output.
#   undiverged  all WAL is on the others: it just follows
#   rewind      killed with WAL that nobody else has
#   frozen      the same, but it was frozen past its lease: under the same postmaster
#   clone       as rewind, where pg_rewind cannot work
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(time sleep);

Test::More->builder->output(\*STDERR);
my %option = (case => 'rewind', rounds => 5, mb => 500);
while (my $name = shift) { $option{ $name =~ s/^--//r } = shift; }
my ($case, $rounds) = @option{qw(case rounds)};

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

sub streams {
    my ($old, $new) = @_;
    return ($cluster->try_sql($new, "SELECT count(*) FROM pg_stat_replication WHERE application_name = '$old' AND state = 'streaming'"))[1] eq '1';
}

my @ms;
my $same_pid = 0;
my $primary = 'london';
for my $round (1 .. $rounds) {
    $cluster->start_writer;
    $cluster->wait_writes(50, 'before');
    my $old = $primary;
    my $pid = $cluster->postmaster($old);
    $cluster->diverge($old, 2000) unless $case eq 'undiverged';
    if ($case eq 'frozen') { $cluster->freeze($old); }
    else {
        $cluster->stop_writer if $case eq 'undiverged';
        $cluster->kill_everything($old);
    }
    $primary = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    my $begin = time;
    if ($case eq 'frozen') { $cluster->thaw($old); }
    else { $cluster->launch($old); }
    $cluster->until_true(290, "$old streams again", sub { streams($old, $primary) });
    push @ms, (time - $begin) * 1000;
    ++$same_pid if $cluster->postmaster($old) == $pid;
    $cluster->verify_ledger($primary);
    $cluster->wait_ready($primary, 120);
}
@ms = sort { $a <=> $b } @ms;
my $lost = Test::More->builder->is_passing ? 0 : 1;
printf STDOUT qq({"case": "%s", "n": %d, "median_ms": %.0f, "p99_ms": %.0f, "max_ms": %.0f, "same_pid": %d, "lost": %d, "mb": %d}\n),
    $case, scalar @ms, $ms[ $#ms / 2 ], $ms[ int(0.99 * $#ms + 0.5) ], $ms[-1], $same_pid, $lost, $option{mb};
done_testing();
