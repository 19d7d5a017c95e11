# SPDX-License-Identifier: PostgreSQL
#
# A server that was put back to an earlier time may have forgotten a vote, or lack WAL that it confirmed.
# An old state directory, an old data directory, or both: in no case does it vote or open for writes
# before the primary has readmitted it under a new identity; and then it votes again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use PgHaCluster;
use File::Path qw(remove_tree);
use Test::More;
use Time::HiRes qw(sleep);

my $cluster = PgHaCluster->new;
my $backup = $cluster->dir . '/backup';
mkdir $backup or die "cannot make $backup: $!";

sub keep { # a copy of these directories as they are now
    my ($what, @from) = @_;
    remove_tree("$backup/$what");
    mkdir "$backup/$what" or die $!;
    $cluster->must_run('cp', '-a', @from, "$backup/$what/");
}
sub put_back {
    my ($what, @to) = @_;
    for my $directory (@to) {
        remove_tree($directory);
        my ($name) = $directory =~ m{([^/]+)$};
        $cluster->must_run('cp', '-a', "$backup/$what/$name", $directory);
    }
}
sub identity { return $cluster->sql('london', "SELECT node_id FROM ha_members WHERE name = '$_[0]'"); }
sub restart {
    my ($name) = @_;
    $cluster->stop($name, 'fast');
    $cluster->start($name);
    $cluster->wait_standby_of($name, 'london');
}

# rome is down and has been put back: it must lose its identity, say why, and come back as a voter.
sub readmitted {
    my ($what, $before, $why) = @_;
    my $offset = $cluster->log_size('rome');
    $cluster->start('rome');
    $cluster->wait_log('rome', $why, "$what: the log says why", $offset);
    $cluster->poll('london', "SELECT count(*), bool_and(node_id <> '$before') FROM ha_members WHERE name = 'rome'", '1|t',
        "$what: it is a new member, and the old one is gone");
    $cluster->wait_standby_of('rome', 'london');
    $cluster->wait_ready('london');
    $cluster->poll('london', "SELECT count(*) FROM ha_members WHERE voter AND liveness = 'alive'", '3', "$what: three vote again");
    is($cluster->sql('rome', 'SELECT pg_is_in_recovery()'), 't', "$what: rome is a standby");
    unlike($cluster->log_text('rome', $offset), qr/database system is ready to accept connections$/m,
        "$what: and never was anything else");
}

# The state of london while it was the only voter, for later.
$cluster->start_first;
keep('alone', $cluster->state_directory('london'));
for my $name (qw(paris rome)) {
    $cluster->clone($name, 'london');
    $cluster->start($name);
}
$cluster->wait_ready('london');
my @rome = ($cluster->data('rome'), $cluster->state_directory('rome'));

# -- the state directory alone, a copy from the same start
keep('state', $rome[1]);
my $before = identity('rome');
$cluster->stop('rome', 'fast');
put_back('state', $rome[1]);
readmitted('old state directory', $before, qr/is not usable: it is an old copy: the data directory has seen a newer one.*HINT:  Never restore/s);
ok(-e "$rome[1]/state.unusable", 'old state directory: the old file is kept aside');

# -- the data directory alone: it lacks WAL that rome has confirmed
$cluster->stop('rome', 'fast');
keep('data', $rome[0]);
$cluster->start('rome');
$cluster->wait_standby_of('rome', 'london');
$cluster->sql('london', 'INSERT INTO ledger SELECT -g, 0 FROM generate_series(1, 100) g');
$before = identity('rome');
$cluster->stop('rome', 'fast');
put_back('data', $rome[0]);
readmitted('old data directory', $before, qr/is not usable: the data directory is an old copy/);

# -- both, as a snapshot of the machine holds them: only the peers can know
for my $starts (1, 2) {
    $cluster->stop('rome', 'fast');
    keep('machine', @rome);
    $cluster->start('rome');
    $cluster->wait_standby_of('rome', 'london');
    restart('rome') for 2 .. $starts;
    $before = identity('rome');
    $cluster->stop('rome', 'fast');
    put_back('machine', @rome);
    my $why = $starts == 1 ? qr/another server runs with the same identity/ : qr/its state directory is an old copy/;
    readmitted("machine put back by $starts starts", $before, qr/does not accept this node: $why/);
}

# -- a copy that names london the only voter: it must not open for writes, though nobody else is up
$cluster->stop($_, 'fast') for qw(london rome paris); # london first: the others have all it has
put_back('alone', $cluster->state_directory('london'));
my $offset = $cluster->log_size('london');
$cluster->start('london');
$cluster->wait_log('london', qr/starting as a standby: its state directory and its data directory do not belong together/,
    'copy that names it the only voter: starts as a standby', $offset);
for (1 .. 20) {
    is($cluster->sql('london', 'SELECT pg_is_in_recovery()'), 't', 'and stays one') or last;
    sleep 0.1;
}
$cluster->poll('london', 'SELECT reason FROM ha_cluster', qr/its state was not usable: it is an old copy/, 'the reason says why');
$cluster->start($_) for qw(paris rome);
my $primary = $cluster->wait_primary('paris', 'rome');
$cluster->wait_standby_of('london', $primary);
$cluster->wait_ready($primary);
$cluster->poll($primary, 'SELECT count(*) FROM ha_members WHERE voter', '3', 'three members, all of them vote');
done_testing();
