# SPDX-License-Identifier: PostgreSQL
#
# Faults that more than one file needs: tests, and the negative control of what they test.  Each is called with a
# running cluster, whose primary is london unless another is named, and leaves it after the fault.
package PgHaScenes;

use strict;
use warnings;
use Exporter qw(import);
use PgHaCluster;
use PgHaSession;
use Time::HiRes qw(time sleep);

our @EXPORT = qw(only_rome_receives die_while_rome_recovers make_filler die_diverged
    die_with_unflushed_wal die_within_a_record break_stream_before_fork);

# From now on rome alone confirms what is acknowledged.
sub only_rome_receives {
    my ($cluster, $ledger) = @_;
    $cluster->keep_standbys('london');
    my $walsender = $cluster->sql('london', q{SELECT pid FROM pg_stat_replication WHERE application_name = 'paris'});
    kill 'STOP', $walsender or die "cannot stop the walsender for paris: $!";
    $ledger->wait(1000, 'that only rome has received');
}

# Rome, which alone has the newest acknowledged rows, crashes, and has not read its own WAL again when the primary
# dies.  Answers whether paris was elected; only then rome reads on.
sub die_while_rome_recovers {
    my ($cluster, $ledger) = @_;
    only_rome_receives($cluster, $ledger);
    $cluster->kill_everything('rome');
    $cluster->hold_recovery('rome');
    $cluster->launch('rome');
    $cluster->kill_everything('london');
    my $end = time + 4;
    my $elected;
    sleep 0.1 until ($elected = defined $cluster->find_primary('paris')) || time > $end;
    $cluster->release_recovery('rome');
    return $elected;
}

# The table that die_diverged() writes to, with so many rows; and what compare_data() looks with.
sub make_filler {
    my ($cluster, $rows) = @_;
    $cluster->sql('london', $_) for 'CREATE EXTENSION amcheck', 'CREATE TABLE filler (id int PRIMARY KEY, text text)',
        "INSERT INTO filler SELECT n, repeat('x', 100) FROM generate_series(1, $rows) n";
}

# The primary, under writes, dies with rows of the table filler that nobody else has; the others change some that
# it shares with them: pages that only a rewind can bring together.  Answers the new primary; the writing client
# goes on.
sub die_diverged {
    my ($cluster, $old, $rows) = @_;
    $cluster->start_writer;
    $cluster->wait_writes(100, "on $old");
    $cluster->diverge($old, $rows);
    $cluster->kill_everything($old);
    my $new = $cluster->wait_primary(grep { $_ ne $old } $cluster->names);
    $cluster->wait_writes(100, "on $new");
    $cluster->sql($new, q{UPDATE filler SET text = repeat('y', 100) WHERE id % 3 = 0});
    return $new;
}

# The primary's postmaster dies while rome, whose disk is slow, has received WAL that it has not flushed and that paris
# has not received: its stream was held for less than rome needs for a flush.  Its node worker resigns, so they vote
# within milliseconds, and of two equal ones paris stands first.  Answers: the new primary, its follower, and whether that one had WAL which the new primary lacks.
sub die_with_unflushed_wal {
    my ($cluster, $ledger, $library) = @_;
    {
        local $ENV{LD_PRELOAD} = $library;
        local $ENV{PG_HA_SLOW_FLUSH_US} = 30_000;
        $cluster->stop('rome');
        $cluster->write_node_settings('rome', 'pg_ha.failover_priority' => 50);
        $cluster->start('rome');
    }
    $cluster->wait_standby_of('rome', 'london');
    $cluster->wait_ready('london');
    $cluster->poll('paris', q{SELECT priority FROM ha_members WHERE name = 'rome'}, 50, 'paris knows whose turn it is');
    $ledger->wait(300, 'before the kill');
    my %offset = map { $_ => $cluster->log_size($_) } qw(paris rome);
    my $walsender = $cluster->sql('london', q{SELECT pid FROM pg_stat_replication WHERE application_name = 'paris'});
    $cluster->kill_postmaster('london', sub {
        kill 'STOP', $walsender or die "cannot stop the walsender for paris: $!";
        sleep 0.012;
    });
    kill 'KILL', $walsender;
    my $new = $cluster->wait_primary(qw(paris rome));
    my ($follower) = grep { $_ ne $new } qw(paris rome);
    my $diverged;
    $cluster->until_true(120, "$follower follows $new, or has to be rewound", sub { # not waited for: each fsync is slow
        $diverged = $cluster->log_text($follower, $offset{$follower}) =~ /diverged from/ ? 1 : 0;
        return $diverged || $cluster->streams($follower, $new);
    });
    return ($new, $follower, $diverged);
}

# The primary dies while it writes a record that is longer than a WAL segment, when both standbys have received its
# beginning and the segments after it.  Answers how many bytes of it they have.
sub die_within_a_record {
    my ($cluster) = @_;
    $cluster->keep_standbys('london');
    my $session = PgHaSession->new($cluster, 'port=' . $cluster->node('london')->{port} . ' user=postgres');
    my $backend = $session->ask('SELECT pg_backend_pid()');
    my $start;
    for my $attempt (1 .. 10) {
        $start = $cluster->sql('london', 'SELECT pg_switch_wal(), pg_current_wal_insert_lsn()') =~ s/.*\|//r;
        my $before = newest_segment($cluster);
        my $ahead = sub { hex(substr newest_segment($cluster), 16) - hex(substr $before, 16) };    # of the first 4 GB
        $session->begin(q{SELECT length(pg_logical_emit_message(false, 'long', repeat('x', 300000000))::text)});
        my $end = time + 20;
        # WAL is flushed when a segment is full, and else by nobody while the record goes on.
        1 while time < $end && $ahead->() < 8 && !defined $session->answer(0);
        kill 'STOP', $backend or die "cannot stop the backend: $!";
        last unless defined $session->answer(0.3);
        kill 'CONT', $backend;    # too late: it was done
    }
    my $received = "SELECT pg_last_wal_receive_lsn() - '$start'";
    $cluster->until_true(30, 'both standbys have a part of the record',
        sub { 2 == grep { $cluster->sql($_, $received) > 4_000_000 } qw(paris rome) });
    my $bytes = $cluster->sql('paris', $received);
    $cluster->kill_everything('london');
    return $bytes;
}

sub newest_segment {
    my ($cluster) = @_;
    opendir my $dir, $cluster->data('london') . '/pg_wal' or die "pg_wal: $!";
    my ($newest) = sort { $b cmp $a } grep { /^[0-9A-F]{24}$/ } readdir $dir;
    return $newest;
}

# The primary hands over far into a segment, and this happens to rome as soon as it has begun to receive the same segment
# of the new timeline.  Answers whether it had.  Segments of 64 MB give the time for it.
sub break_stream_before_fork {
    my ($cluster, $primary, $fault) = @_;
    $cluster->write_node_settings('rome', 'pg_ha.failover_priority' => 0);    # it follows, whoever is elected
    kill 'HUP', $cluster->postmaster('rome');
    $cluster->wait_ready($primary);
    my $timeline = $cluster->sql($primary, 'SELECT timeline FROM ha_members WHERE is_self');
    $cluster->sql($primary, q{SELECT pg_switch_wal(); SELECT length(pg_logical_emit_message(true, 'long', repeat('x', 50000000))::text)});
    my $end = $cluster->sql($primary, 'SELECT pg_current_wal_insert_lsn()');
    $cluster->poll($_, "SELECT pg_last_wal_replay_lsn() >= '$end'", 't', "$_ has all of it") for grep { $_ ne $primary } $cluster->names;
    $cluster->poll($primary, "SELECT array_length(string_to_array(sync_set, ','), 1) FROM ha_cluster", 3, 'all three count');
    $cluster->poll($primary, q{SELECT priority FROM ha_members WHERE name = 'rome'}, 0, 'rome is no candidate');
    # The primary hears with the next message what its successor has replayed, and refuses until then.
    $cluster->until_true(30, "$primary hands over", sub { ($cluster->try_sql($primary, 'SELECT ha_switchover()'))[0] == 0 });
    my ($limit, $begun) = (time + 60, 0);
    until ($begun || time > $limit) {
        opendir my $dir, $cluster->data('rome') . '/pg_wal' or die "pg_wal: $!";
        $begun = grep { /^[0-9A-F]{24}$/ && hex(substr $_, 0, 8) > $timeline } readdir $dir;
    }
    $fault->();
    return $begun;
}

1;
