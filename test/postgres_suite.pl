# SPDX-License-Identifier: PostgreSQL
#
# PostgreSQL's own regression and isolation tests on the primary of three servers with pg_ha, synchronous, and on a
# server of the same installation without it.  What fails without pg_ha as well is not ours: the tests of another minor
# version say something else here and there.  Afterwards the standbys, and whoever is elected when the primary dies,
# must hold the same data.
#
# Started by scripts/postgres-suite, which builds regress.so.  Exits with 1 if something fails only with pg_ha.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use PgHaCluster;
use Test::More;

GetOptions('source=s' => \my $source, 'programs=s' => \my $programs, 'out=s' => \my $out) or exit 2;
my %suite = (
    regress => [ "$programs/regress/pg_regress", "--inputdir=$source/src/test/regress", "--dlpath=$out",
        "--schedule=$source/src/test/regress/parallel_schedule" ],
    isolation => [ "$programs/isolation/pg_isolation_regress", "--inputdir=$source/src/test/isolation",
        "--schedule=$source/src/test/isolation/isolation_schedule" ],
);
my %database = (regress => 'regression', isolation => 'isolation_regression');    # some tests know the name
my $settings = "shared_buffers = '64MB'\nmax_connections = 60\nmax_prepared_transactions = 10\nwal_keep_size = '2GB'\n";

# The tests of a suite that failed; how many there are.
sub run_suite {
    my ($cluster, $suite, $kind) = @_;
    my $results = "$out/$suite-$kind";
    mkdir $results or die "mkdir $results: $!\n";
    $ENV{PGCONNECT_TIMEOUT} = 60;
    my (undef, $text) = PgHaCluster::run_command(3000, @{ $suite{$suite} }, "--outputdir=$results", "--bindir=$cluster->{bindir}",
        "--dbname=$database{$suite}", '--host=127.0.0.1', "--port=" . $cluster->node('london')->{port}, '--user=postgres');
    my @failed = $text =~ /^(?:test)?\s+(\S+)\s+\.\.\.\s+FAILED/mg;
    my $count = () = $text =~ /\.\.\.\s+(?:ok|FAILED)/g;
    ok($count > 100, "$suite has been run ($kind)") or diag($text);
    return (\@failed, $count);
}

# What a dump says of everything that is replicated.
sub dump_of {
    my ($cluster, $name, $file) = @_;
    my (undef, $text, $error) = PgHaCluster::run_command(600, "$cluster->{bindir}/pg_dump", '-h', '127.0.0.1',
        '-p', $cluster->node($name)->{port}, qw(-U postgres --no-unlogged-table-data regression));
    diag($error) if $error ne '';
    $text =~ s/^\\(?:un)?restrict .*$//mg;    # a random word
    $text =~ s/^SELECT pg_catalog\.setval.*$//mg;    # the WAL of a sequence is up to 32 values ahead
    PgHaCluster::write_file("$out/$file.sql", $text);
    return $text;
}

sub same_data_everywhere {
    my ($cluster) = @_;
    my $end = $cluster->sql('london', 'SELECT pg_current_wal_flush_lsn()');
    $cluster->poll($_, "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', "$_ has replayed everything", 300) for qw(paris rome);
    my $dump = dump_of($cluster, 'london', 'london');
    ok(length $dump > 100_000, 'the suite has left data');
    ok(dump_of($cluster, $_, $_) eq $dump, "$_ holds the same: see $out/$_.sql") for qw(paris rome);
    $cluster->kill_everything('london');
    my $winner = $cluster->wait_primary(qw(paris rome));
    ok(dump_of($cluster, $winner, 'winner') eq $dump, "so does $winner after the failover: see $out/winner.sql");
}

my $status = 0;
my @table;
for my $suite (qw(regress isolation)) {
    my $without = PgHaCluster->new(settings => $settings . "shared_preload_libraries = ''\n", limit => 3600);
    $without->init('london');
    $without->start('london');
    my ($expected) = run_suite($without, $suite, 'without');
    $without->end;
    my $with = PgHaCluster->new(settings => $settings, limit => 3600);
    $with->start_all;
    my ($failed, $count) = run_suite($with, $suite, 'with');
    same_data_everywhere($with) if $suite eq 'regress';
    $with->end;
    my %known = map { $_ => 1 } @$expected;
    my @ours = grep { !$known{$_} } @$failed;
    $status = 1 if @ours;
    push @table, sprintf("%-10s %5d %16d %13d   %s", $suite, $count, scalar @$expected, scalar @$failed, "@ours" || 'none');
}
print "# suite     tests   failed without          with   only with pg_ha\n", map { "# $_\n" } @table;
is($status, 0, 'nothing fails only with pg_ha');
done_testing();
