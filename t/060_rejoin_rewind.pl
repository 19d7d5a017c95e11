# SPDX-License-Identifier: PostgreSQL
#
# An old primary with WAL that nobody else has comes home by itself: it is rewound before it opens, its
# WAL is kept, and it streams again.  Once after kill -9 of everything, once after it was only frozen past
# its lease: then under the same postmaster.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
make_filler($cluster, 0);

# Answers the primary.
sub came_home {
    my ($old, $log) = @_;
    my $new = $cluster->wait_home($old);
    $cluster->wait_writes(100, "$old is back");
    $cluster->stop_writer;
    $cluster->compare_data($new, [ $old, $new ], qw(ledger filler));
    $cluster->verify_ledger($_) for $old, $new;
    my ($aside) = $cluster->log_text($old, $log) =~ m{is kept in (\S+)};
    ok($aside && -s "$aside/range.txt", 'the log tells where the diverged WAL is kept, and its range is there');
    $cluster->poll($old, "SELECT count(*) FROM ha_events WHERE reason LIKE '%is kept in%'", '1', 'so do the events');
    ok(!-e "$cluster->{dir}/$old/pg_ha.rejoin", 'nothing is left in the data directory');
    $new = $cluster->wait_whole;
    is_deeply([ $cluster->primaries ], [$new], 'there is exactly one primary');
    return ($new, $aside);
}

# kill -9 of everything
my $new = die_diverged($cluster, 'london', 2000);
my $log = $cluster->log_size('london');
$cluster->start('london');
($new, my $aside) = came_home('london', $log);
my ($from, $to) = do { local (@ARGV, $/) = "$aside/range.txt"; <> =~ m{^from\s+(\S+)\nto\s+(\S+)}m };
my ($status, $records) = PgHaCluster::run_command(20, "$cluster->{bindir}/pg_waldump", '-p', $aside, '-t', 1, '-s', $from, '-e', $to);
cmp_ok(scalar(() = $records =~ m{desc: INSERT}g), '>=', 2000, 'pg_waldump reads the lost rows there');
$cluster->wait_ready($new);

# frozen past its lease, with WAL that it could not send
$cluster->start_writer;
$cluster->wait_writes(200, 'before the freeze');
$cluster->diverge($new, 2000);
my $before = $cluster->postmaster($new);
$log = $cluster->log_size($new);
$cluster->freeze($new);
my ($frozen, $next) = ($new, $cluster->wait_primary(grep { $_ ne $new } $cluster->names));
$cluster->wait_writes(200, "on $next");
$cluster->thaw($frozen);
came_home($frozen, $log);
is($cluster->postmaster($frozen), $before, 'the postmaster is the same');
done_testing();
