# SPDX-License-Identifier: PostgreSQL
#
# Nobody reads rows on an old primary that no other server has: it turns new sessions away until its WAL
# was compared with a primary's, over restarts, too; who looks for the reason is let in.  And a fast stop in
# the middle of the rejoin ends the server at once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE ROLE reader LOGIN', 'CREATE EXTENSION amcheck';
$cluster->sql('london', 'CREATE TABLE filler (id int PRIMARY KEY, text text)');
$cluster->sql('london', 'GRANT SELECT ON filler TO reader');

sub read_as_reader {
    my ($name) = @_;
    return PgHaCluster::run_command(20, "$cluster->{bindir}/psql", qw(-XAtq -v VERBOSITY=verbose -h 127.0.0.1 -p),
        $cluster->node($name)->{port}, qw(-U reader -d postgres -c), 'SELECT count(*) FROM filler');
}

my ($status) = read_as_reader('london');
is($status, 0, 'a reader reads on the primary');
my @senders = $cluster->diverge('london', 2000);
$cluster->power_off;

# Alone it cannot know whether anybody has what it has.
for my $start ('alone', 'alone, started once more') {
    $cluster->start('london');
    my ($status, $rows, $error) = read_as_reader('london');
    isnt($status, 0, "$start: the reader is turned away");
    like($error, qr{sessions are not accepted now: .*may hold rows that no other server has}s, 'and told why');
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'an administrator is let in');
    $cluster->stop('london');
}

# The other two elect one of them; a stop in the middle of the rejoin is not held up.
$cluster->start($_) for qw(paris rome);
my $new = $cluster->wait_primary('paris', 'rome');
is((read_as_reader($new))[0], 0, "the reader reads on $new");
$cluster->launch('london');
my $journal = $cluster->data('london') . '.pg_ha/rejoin';
$cluster->until_true(60, 'the rejoin of london is under way',
    sub { open my $in, '<', $journal or return 0; join('', <$in>) =~ m{^phase (hiding|recovering|saving|rewinding)$}m });
my $begun = time;
$cluster->stop('london');
cmp_ok(time - $begun, '<', 20, 'a fast stop ends it');
$cluster->wait_log('london', qr{the next start goes on with it|database system is shut down}, 'and it says so');
$cluster->start('london');
$cluster->wait_standby_of('london', $new);
$cluster->until_true(20, 'the reader is let in again', sub { (read_as_reader('london'))[0] == 0 });
my ($done, $rows) = read_as_reader('london');
is($rows, "0\n", 'and sees nothing of what was never committed elsewhere');
ok(!-e $cluster->data('london') . '.pg_ha/unverified', 'no marker is left');
$cluster->compare_data($cluster->wait_whole, [ $cluster->names ], qw(ledger filler));
done_testing();
