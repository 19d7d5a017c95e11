# SPDX-License-Identifier: PostgreSQL
#
# The independent ledger itself: it follows a failover, and it notices a lost row and a second writer.
# Then the same fault without any: kill -9 of all the primary's processes loses nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaLedger;
use Test::More;

my $cluster = PgHaCluster->new;
$cluster->start_all;
my $ledger = PgHaLedger->new($cluster);
$ledger->start;
$ledger->wait(300, 'before the kill');
$cluster->kill_everything('london');
$ledger->wait(300, 'after the kill');
my $new = $cluster->wait_primary('paris', 'rome');
my $found = $ledger->verify($new);
is($found->{timelines}, 2, 'two timelines acknowledged');

# What it must notice.
my ($file) = @{ $ledger->{files} };
open my $in, '<', $file or die "$file: $!";
my @lines = <$in>;
close $in;
my ($first) = grep { /A$/ } @lines;
my ($id, $address, $begin, $end, $timeline) = split ' ', $first;
PgHaCluster::append($file, "7 $address $begin $end $timeline A\n");
is(($ledger->count($new))[1]{lost}, 1, 'an acknowledged id that no server has is lost');
PgHaCluster::write_file($file, join '', @lines);
my (undef, $last) = (split ' ', $lines[-1])[2, 3];
PgHaCluster::append($file, join(' ', $id, $address, $last + 1, $last + 2, $timeline, 'A') . "\n");
is(($ledger->count($new))[1]{double_acks}, 1, 'an acknowledgement of an older timeline, begun after one of a newer, is a double one');
PgHaCluster::write_file($file, join '', @lines);
PgHaCluster::append($file, join(' ', $id, 'other:1', $begin + 1, $end + 1, $timeline, 'A') . "\n");
is(($ledger->count($new))[1]{double_acks}, 1, 'so is that of a second server in one timeline');
done_testing();
