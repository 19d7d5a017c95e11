# SPDX-License-Identifier: PostgreSQL
#
# An administrator's hand on the two workers: cancelling, terminating, and commands that wait for every
# process.  The primary stays the primary, in its term, and no session is disturbed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new(settings => "pg_ha.lease_duration = '4s'\n");
$cluster->start_all;

sub worker {
    my ($which) = @_;
    for my $pid (PgHaCluster::family($cluster->postmaster('london'))) {
        open my $in, '<', "/proc/$pid/cmdline" or next;
        local $/;
        return $pid if (<$in> // '') =~ /pg_ha $which/;
    }
    return 0;
}

my $manager = worker('manager');
$cluster->sql('london', "SELECT pg_cancel_backend($manager)");
$cluster->sql('london', "CREATE DATABASE wait_for_all STRATEGY file_copy");
$cluster->sql('london', 'DROP DATABASE wait_for_all');
pass('DROP DATABASE, for which every process must answer, does not hang');
is(worker('manager'), $manager, 'a cancel does not end the manager worker');

for my $which (qw(manager node)) {
    my $pid = worker($which);
    kill 'TERM', $pid;
    $cluster->until_true(10, "the $which worker is started again", sub { my $new = worker($which); $new && $new != $pid });
    $cluster->poll('london', 'SELECT ha_is_primary() AND term = 1 FROM ha_cluster', 't',
        "a terminated $which worker is started again, and its node is the primary as before");
}
unlike($cluster->log_text('london'), qr/terminating any other active/, 'no other process was disturbed');
done_testing();
