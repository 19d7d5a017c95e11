# SPDX-License-Identifier: PostgreSQL
#
# A promotion that died between its timeline placeholders and the new timeline leaves empty history
# files behind.  Stock recovery takes the last one for the newest timeline and refuses to start
# ("requested timeline N is not a child of this server's history").
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
$cluster->stop('rome', 'fast');
my $pg_wal = $cluster->data('rome') . '/pg_wal';
for my $timeline (2 .. 4) {
    open my $file, '>', sprintf('%s/%08X.history', $pg_wal, $timeline) or die "cannot create placeholder: $!";
    close $file;
}
$cluster->start('rome');
$cluster->wait_standby_of('rome', 'london');
ok(!-e sprintf('%s/%08X.history', $pg_wal, 4), 'the placeholders are gone');
done_testing();
