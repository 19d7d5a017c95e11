# SPDX-License-Identifier: PostgreSQL
#
# How far a rejoin is shows on every other member, though the server itself is down; and only somebody who may replicate
# can have anything shown there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use PgHaScenes;
use PgHaSession;
use Test::More;
use Time::HiRes qw(sleep time);

my $cluster = PgHaCluster->new(limit => 600);
$cluster->hold_pg_rewind;
$cluster->start_all;
$cluster->sql('london', $_) for 'CREATE ROLE reader LOGIN', 'CREATE ROLE sender LOGIN REPLICATION';
make_filler($cluster, 0);
my $new = die_diverged($cluster, 'london', 2000);
$cluster->stop_writer;
my ($third) = grep { $_ ne $new } qw(paris rome);
my $reason = "SELECT reason FROM ha_members WHERE name = 'london'";

# -- who says it
my $london = $cluster->sql($new, "SELECT node_id FROM ha_members WHERE name = 'london'");
my %said;
for my $role (qw(reader sender)) {
    my $percent = $role eq 'reader' ? 98 : 99;
    $said{$role} = PgHaSession->new($cluster, "port=" . $cluster->node($new)->{port} . " user=$role application_name=pg_ha_rejoin");
    $said{$role}->ask("SELECT 1 /* rejoin of member $london, clone 1: $percent % of 1 MB */");
}
$cluster->poll($_, $reason, 'is being cloned anew: 99 % of 1 MB', "on $_ it shows what a role that may replicate says, and no other's") for $new, $third;
$_->leave for values %said;
$cluster->poll($_, $reason, qr{^(?!is being)}, "and on $_ no more when its session has ended") for $new, $third;

# -- a real one, held up so that there is time to look
$cluster->launch('london');
my $phase = '';
$cluster->until_true(60, 'the rejoin of london has begun',
    sub { sleep 0.001 until ($phase = $cluster->rejoin_phase('london')) || !PgHaCluster::is_running($cluster->postmaster('london')); $phase !~ m{^(requested|hiding)$} });
SKIP: {
    my $helper = $cluster->program('london', qr{pg_ha_rejoin\0});
    skip "recovery was over too soon to be seen (phase $phase)", 2 unless $helper && $phase =~ m{^(recovering|saving)$};
    kill 'STOP', $helper;
    $cluster->poll($_, $reason, 'is being rewound', "$_ says that london is being rewound while it still recovers") for $new, $third;
    kill 'CONT', $helper;
}
my $pid = $cluster->halted_rewind('london');
$cluster->poll($_, $reason, qr{^is being rewound}, "$_ says so while pg_rewind runs") for $new, $third;
my %seen;
for (1 .. 200) { # pg_rewind says once a second how far it is
    last if !PgHaCluster::is_running($pid) || (grep { $seen{$_} } $new, $third) == 2;
    kill 'CONT', $pid;
    sleep 0.003;
    kill 'STOP', $pid;
    sleep 0.5;
    for my $name ($new, $third) { $seen{$name} ||= $1 if $cluster->sql($name, $reason) =~ m{([1-9]\d* % of [1-9]\d* MB)$}; }
}
kill 'CONT', $pid;
ok($seen{$_}, "$_ has said how far: " . ($seen{$_} // 'never')) for $new, $third;
$cluster->wait_standby_of('london', $new);
$cluster->poll($_, $reason, qr{^follows }, "$_ hears of london itself again") for $new, $third;
like($cluster->log_text('london'), qr{100 % of \d+ MB copied}, 'its log tells of it, too');
$cluster->verify_ledger('london');
$cluster->compare_data($cluster->wait_whole, [ $cluster->names ], qw(ledger filler));
done_testing();
