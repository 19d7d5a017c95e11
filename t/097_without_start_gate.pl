# SPDX-License-Identifier: PostgreSQL
#
# Negative control of the start gate: without it an old primary that is started alone opens for writes, as any stock
# server would; with it, on the same module, it opens as a standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $bindir = $ENV{PG_HA_PLANTED_BINDIR} // '';
plan(skip_all => 'needs the module of `make planted-module`, as scripts/test has it') unless -x "$bindir/postgres";
my $cluster = PgHaCluster->new(bindir => $bindir);
$cluster->start_all;
for ([ start_gate_open => 'writable' ], [ '' => 'read-only' ]) {
    my ($bug, $expected) = @$_;
    $cluster->power_off;
    $ENV{PG_HA_PLANTED_BUG} = $bug;
    my $log = $cluster->log_size('london');
    $cluster->launch('london');
    # The node worker fences it and makes it a standby soon; here counts as what it opens.
    $cluster->until_true(60, 'london opens', sub { $cluster->log_text('london', $log) =~ /ready to accept (read-only )?connections/ });
    my $opened = $cluster->log_text('london', $log) =~ /ready to accept connections/ ? 'writable' : 'read-only';
    is($opened, $expected, 'planted: ' . ($bug || 'nothing') . ": london opens $expected");
}
done_testing();
