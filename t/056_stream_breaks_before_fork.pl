# SPDX-License-Identifier: PostgreSQL
#
# A standby begins to follow a new primary whose timeline forks far into a segment, and its stream breaks, or it is
# killed, before the part of that segment that it has already has come again.  It goes on with what it has.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;

my $cluster = PgHaCluster->new(segment_mb => 64, settings => "max_wal_size = 2GB\n");
$cluster->start_all;
my $primary = 'london';

sub everybody_streams {
    $primary = $cluster->wait_primary(qw(london paris));
    $cluster->wait_standby_of($_, $primary, 120) for grep { $_ ne $primary } $cluster->names;
}

my $postmaster = $cluster->postmaster('rome');
ok(break_stream_before_fork($cluster, $primary, sub { kill 'TERM', $cluster->process('rome', 'walreceiver') }), 'rome had begun to follow');
everybody_streams();
is($cluster->postmaster('rome'), $postmaster, 'rome has gone on');

ok(break_stream_before_fork($cluster, $primary, sub { $cluster->kill_everything('rome') }), 'rome had begun to follow again');
$cluster->start('rome');
everybody_streams();
done_testing();
