# SPDX-License-Identifier: PostgreSQL
#
# The primary's WAL ends exactly with a page, and nobody writes.  A server that is rewound to it has to open
# all the same: what pg_rewind asks it to replay lies behind the header of the next page, where no record ends.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my ($page, $probe, $rounds) = (8192, 400, 5);
my $cluster = PgHaCluster->new(settings => "autovacuum = off\n");
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE TABLE filler (id int PRIMARY KEY, text text)', 'CREATE EXTENSION amcheck';
my $primary = 'london';

sub insert_position { return $cluster->sql($primary, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"); }
sub emit { $cluster->sql($primary, "SELECT pg_logical_emit_message(false, 'pad', repeat('x', $_[0]))"); }
sub behind_a_header { return $_[0] % $page == 24 || $_[0] % $page == 40; }

# Messages of a length that fills the page; something else may come between, so as often as it takes.
sub fill_the_page {
    my $overhead = 0;
    while ($overhead <= 0 || $overhead > 200) {
        my $before = insert_position();
        emit($probe);
        my $after = insert_position();
        $overhead = $after - $before - $probe if int($before / $page) == int($after / $page);
    }
    my $left = $page - insert_position() % $page;
    emit($left - $overhead) if $left > $probe + $overhead;
    return behind_a_header(insert_position());
}

# Looks at what the helper looks at, so that hint bits are set and logged before.
sub warm_up {
    $cluster->sql($primary, $_) for 'SELECT count(*) FROM pg_control_system(), pg_control_checkpoint(), pg_tablespace, pg_proc, pg_settings',
        "SELECT has_function_privilege('pg_read_binary_file(text)', 'EXECUTE')", 'SELECT count(*) FROM pg_stat_file(\'PG_VERSION\'), pg_roles';
}

sub one_round {
    my $old = $primary;
    $cluster->wait_ready($old);
    $cluster->diverge($old, 100);
    my $log = $cluster->log_size($old);
    $cluster->kill_everything($old);
    $primary = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $cluster->poll($primary, 'SELECT timeline_id = (SELECT max(term) FROM ha_cluster) FROM pg_control_checkpoint()', 't',
        'the checkpoint of the promotion is over', 60);
    warm_up() for 1 .. 2;
    $cluster->until_true(30, 'the WAL ends with a page', \&fill_the_page);
    $cluster->start($old);
    $cluster->wait_standby_of($old, $primary);
    $cluster->poll($old, 'SELECT pg_is_in_recovery()', 't', "$old opens for reads");
    my @lows = $cluster->log_text($old, $log) =~ m{consistent recovery state reached at [0-9A-F]+/([0-9A-F]+)}g;
    return hex($lows[-1]) % $page < 200; # with the first record of a page
}

my $hit = 0;
for my $round (1 .. $rounds) {
    last if $hit = one_round();
}
ok($hit, 'a server was rewound to the end of a page, and opened');
is_deeply([ $cluster->primaries ], [$primary], 'there is exactly one primary');
$cluster->compare_data($cluster->wait_whole, [ $cluster->names ], qw(ledger filler));
done_testing();
