# SPDX-License-Identifier: PostgreSQL
#
# One process of the primary dies and PostgreSQL restarts all of them in place.  The others elect; the
# old primary comes out of that cycle as a standby.  Had it gone on as primary, its end-of-recovery
# WAL would be nobody else's, and only a rewind could bring it back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $postmaster = $cluster->postmaster('london');
my $walwriter = $cluster->sql('london', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
# All WAL is on the standbys, or the old primary would have diverged whatever it does next.
$cluster->poll('london', 'SELECT count(*) FROM pg_stat_replication WHERE flush_lsn = pg_current_wal_insert_lsn()', '2',
    'both standbys have all WAL');
kill 'KILL', $walwriter or die "cannot kill the walwriter: $!";
my $primary = $cluster->wait_primary(qw(paris rome));
$cluster->wait_standby_of('london', $primary);
is($cluster->postmaster('london'), $postmaster, 'the postmaster is the same');
like($cluster->log_text('london'), qr/starting as a standby: a member waits for its election/, 'it says why');
done_testing();
