# SPDX-License-Identifier: PostgreSQL
#
# Negative controls on real servers: a scenario runs on the module of `make planted-module` with a mechanism
# switched off, and the ledger has to find what the mechanism prevents; then on the same module with nothing
# planted, and it has to find nothing.  Without this a ledger that finds nothing proves nothing.
package PgHaNegative;

use strict;
use warnings;
use Exporter qw(import);
use PgHaCluster;
use PgHaLedger;
use Test::More;

our @EXPORT = qw(negative_control);

# scenario: called with cluster and ledger, answers the name of the last primary, and what it has counted itself.
# without: what is planted for the control; with: what is planted for the comparison, else nothing.
# finds: 'lost', 'double_acks' or one of the scenario's own counts.  rounds: how often the control may be repeated
# until it is found.  cluster, ledger: options of theirs.  alone: called with the cluster while it has one member.
sub negative_control {
    my (%control) = @_;
    my $bindir = $ENV{PG_HA_PLANTED_BINDIR} // '';
    plan(skip_all => 'needs the module of `make planted-module`, as scripts/test has it') unless -x "$bindir/postgres";
    my $found = {};
    for my $round (1 .. $control{rounds} // 3) {
        $found = one_run($bindir, $control{without}, %control);
        last if $found->{ $control{finds} };
    }
    cmp_ok($found->{ $control{finds} }, '>', 0, "with $control{without} the ledger finds: $control{finds}");
    my $with = $control{with} // '';
    $found = one_run($bindir, $with, %control);
    is($found->{ $control{finds} }, 0, 'with ' . ($with || 'nothing planted') . " it does not, among $found->{acknowledged} rows");
    done_testing();
}

sub one_run {
    my ($bindir, $bugs, %control) = @_;
    local $ENV{PG_HA_PLANTED_BUG} = $bugs;
    my $cluster = PgHaCluster->new(bindir => $bindir, settings => $control{settings}, %{ $control{cluster} // {} });
    $cluster->start_all($control{alone});
    my $ledger = PgHaLedger->new($cluster, %{ $control{ledger} // {} });
    $ledger->start;
    $ledger->wait(200, 'before the fault');
    my ($primary, %counted) = $control{scenario}->($cluster, $ledger);
    # A defect may leave it without standbys that confirm what it has.  Without pg_ha it shows that.
    $ledger->stop;
    $cluster->kill_everything($_) for grep { PgHaCluster::is_running($cluster->postmaster($_)) } $cluster->names;
    $cluster->write_node_settings($primary, shared_preload_libraries => "''");
    $cluster->start($primary);
    my (undef, $found, $err) = $ledger->count($primary);
    note("planted: $bugs; lost $found->{lost}, double $found->{double_acks} of $found->{acknowledged}\n$err");
    $cluster->end;
    return { %$found, %counted };
}

1;
