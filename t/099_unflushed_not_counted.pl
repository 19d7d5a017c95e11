# SPDX-License-Identifier: PostgreSQL
#
# Negative control of a voter's position while its walreceiver still flushes: a voter that does not wait for that has
# more WAL afterwards than it told, the winner lacks it, and the voter has to be rewound.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaNegative;
use PgHaScenes;
use Test::More;

my $library = ($ENV{PG_HA_BINDIR} // '') =~ s{bin$}{lib/slow_flush.so}r;
plan(skip_all => 'needs slow_flush.so, as scripts/test has it') unless -e $library;

negative_control(
    without => 'unflushed_not_counted',
    finds => 'diverged',
    rounds => 15,    # it takes one or two
    settings => "fsync = on\n",
    ledger => { sessions => 8, pause_us => 0 },
    scenario => sub {
        my ($cluster, $ledger) = @_;
        my ($new, undef, $diverged) = die_with_unflushed_wal($cluster, $ledger, $library);
        return ($new, diverged => $diverged);
    },
);
