# SPDX-License-Identifier: PostgreSQL
#
# What pg_ha costs a server that works: pgbench's TPC-B-like transactions on a primary with two standbys,
# with pg_ha and with stock PostgreSQL, both waiting for one standby (`ANY 1`).  Both clusters stay up and
# are measured by turns, in pairs that begin with the one or the other; the figure is the ratio of a pair.
#
# Started by scripts/bench-overhead.  Prints one JSON line; progress goes to stderr.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use PgHaCluster;
use Test::More;

my ($pairs, $seconds, $clients, $scale, $fsync) = (15, 10, 8, 10, 'on');
GetOptions('pairs=i' => \$pairs, 'seconds=i' => \$seconds, 'clients=i' => \$clients, 'scale=i' => \$scale, 'fsync=s' => \$fsync)
    or exit 2;
open my $quiet, '>', '/dev/null' or die $!;
Test::More->builder->output($quiet);

my %common = (limit => 86_400, settings => "fsync = $fsync\nshared_buffers = 128MB\nmax_wal_size = 4GB\n");
my $with = PgHaCluster->new(%common);
$with->start_all;
my $without = PgHaCluster->new(%common, nodes => [qw(stock stock1 stock2)]);
start_stock($without);

# Streaming replication as the manual has it, without the library.
sub start_stock {
    my ($cluster) = @_;
    my ($primary, @standbys) = $cluster->names;
    my %plain = (shared_preload_libraries => "''");
    $cluster->init($primary);
    $cluster->write_node_settings($primary, %plain);
    $cluster->start($primary);
    for my $name (@standbys) {
        $cluster->clone($name, $primary);
        my $node = $cluster->node($primary);
        $cluster->write_node_settings($name, %plain,
            primary_conninfo => "'host=$node->{host} port=$node->{port} user=postgres application_name=$name'");
        PgHaCluster::write_file($cluster->data($name) . '/standby.signal', '');
        $cluster->start($name);
    }
    $cluster->sql($primary, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (@{[ join ', ', @standbys ]})'");
    $cluster->sql($primary, 'SELECT pg_reload_conf()');
    $cluster->poll($primary, q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'}, scalar @standbys, 'both standbys count');
}

sub pgbench {
    my ($cluster, @options) = @_;
    my ($primary) = $cluster->names;
    my $node = $cluster->node($primary);
    my ($status, $out, $err) = PgHaCluster::run_command(600, "$cluster->{bindir}/pgbench", '-h', $node->{host}, '-p', $node->{port},
        qw(-U postgres), @options, 'postgres');
    $cluster->give_up("pgbench failed: $err") if $status != 0;
    return $out =~ /^tps = ([\d.]+)/m ? $1 : undef;
}

my @run = ('-c', $clients, '-j', 2, '-n', '-T', $seconds);
for my $cluster ($with, $without) {
    pgbench($cluster, '-i', '-q', '-s', $scale);
    pgbench($cluster, @run);    # warm
}
my (@ratios, @with, @without);
for my $pair (1 .. $pairs) {
    my %tps;
    for my $which ($pair % 2 ? qw(with without) : qw(without with)) {
        $tps{$which} = pgbench($which eq 'with' ? $with : $without, @run);
    }
    push @ratios, $tps{with} / $tps{without};
    push @with, $tps{with};
    push @without, $tps{without};
    printf STDERR "fsync %s: pair %d of %d: %.0f tps with pg_ha, %.0f without, ratio %.3f\n", $fsync, $pair, $pairs, $tps{with},
        $tps{without}, $ratios[-1];
}

sub quantile {
    my ($share, @values) = @_;
    my @sorted = sort { $a <=> $b } @values;
    my $place = $share * $#sorted;
    my ($low, $part) = (int $place, $place - int $place);
    return $sorted[$low] + $part * ($sorted[ $low < $#sorted ? $low + 1 : $low ] - $sorted[$low]);
}
printf qq({"measure": "tpcb_fsync_%s", "n": %d, "ratio": %.4f, "ratio_q1": %.4f, "ratio_q3": %.4f, "tps_with": %.0f, )
    . qq("tps_without": %.0f, "clients": %d, "seconds": %d}\n),
    $fsync, $pairs, (map { quantile($_, @ratios) } 0.5, 0.25, 0.75), quantile(0.5, @with), quantile(0.5, @without), $clients, $seconds;
done_testing();
